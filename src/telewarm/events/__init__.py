"""Events of all processes, for the subscribers of this one."""
