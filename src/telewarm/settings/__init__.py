"""Settings: a value, read once at start. Only cli and app make one."""

from telewarm.settings.fields import EnvVar, Group
from telewarm.settings.files import NAMED_BY, SettingsFile, choose, refuse_redirects
from telewarm.settings.settings import ObjectStorage, Settings, given_variables, variables, written_in

__all__ = [
    "NAMED_BY",
    "EnvVar",
    "Group",
    "ObjectStorage",
    "Settings",
    "SettingsFile",
    "choose",
    "given_variables",
    "refuse_redirects",
    "variables",
    "written_in",
]
