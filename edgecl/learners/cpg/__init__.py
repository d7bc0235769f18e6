"""Many tasks in one network: weights are compacted, older ones picked, and the network grows where it must.

Hung et al., Compacting, Picking and Growing for Unforgetting Continual Learning, NeurIPS 2019. PackNet (Mallya and Lazebnik,
CVPR 2018), Piggyback (Mallya et al., ECCV 2018) and PAE (Hung et al., ICMR 2019) are settings of the same parts.
"""
