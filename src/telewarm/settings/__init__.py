"""Settings: a value, read once at start. Only cli and app make one."""

from telewarm.settings.fields import Group, Variable
from telewarm.settings.settings import ObjectStorage, Settings, given_variables, variables

__all__ = ["Group", "ObjectStorage", "Settings", "Variable", "given_variables", "variables"]
