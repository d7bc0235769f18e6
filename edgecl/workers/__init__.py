"""Work spread over this process, several processes, or a Ray cluster, behind one contract: `edgecl.workers.pool.Pool`."""
