"""What the network is: the modules of the lab, in pure torch."""
