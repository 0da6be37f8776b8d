"""Settings: a value, read once at start. Only cli and runtime create one."""

from telewarm.settings.fields import EnvVar, Group
from telewarm.settings.files import ENV_FILE_VARIABLE, SettingsFile, check_redirects, choose_settings_file
from telewarm.settings.settings import ObjectStorage, Settings, read_env_file, set_variables, variables

__all__ = [
    "ENV_FILE_VARIABLE",
    "EnvVar",
    "Group",
    "ObjectStorage",
    "Settings",
    "SettingsFile",
    "check_redirects",
    "choose_settings_file",
    "read_env_file",
    "set_variables",
    "variables",
]
