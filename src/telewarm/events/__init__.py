"""Events of all processes, for those who subscribe in this one."""
