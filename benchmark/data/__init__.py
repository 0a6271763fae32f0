"""The files of the tasks: fetch, unpack, verify."""
