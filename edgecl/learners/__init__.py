"""Methods that change the network itself, judged on the same streams."""
