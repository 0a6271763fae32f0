"""The machine: files, cores, devices, a terminal, the model hub."""
