"""What the machine gives: files, cores, devices, a terminal, the model hub."""
