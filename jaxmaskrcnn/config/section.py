"""The base of a run's settings, which checks every value that a field is given."""

import dataclasses
from typing import Any, ClassVar

from jaxmaskrcnn.config.paths import unknown
from jaxmaskrcnn.config.values import (
    ConfigError,
    checked,
)


class Section:
    """Base class of a run's settings; checks the type and range of every value that a field is given.

    Fields that depend on each other are checked when the run begins, since they are set one after the other.

    Raises:
        ConfigError: There is no such field, or it cannot hold the value; the message has the setting's path.

    Example:
        >>> from jaxmaskrcnn.config import DataConfig
        >>> try:
        ...     DataConfig().flip = 7
        ... except jmr.ConfigError as error:
        ...     print(error)
        data.flip is 7; give a number from 0 to 1.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # every section is a dataclass
    place: ClassVar[str] = ""  # the path of the section, with a dot at its end

    def __setattr__(self, name: str, value: Any) -> None:
        fields = {field.name: field for field in dataclasses.fields(self)}
        if name not in fields:
            raise ConfigError(unknown(self, name, self.place))
        object.__setattr__(self, name, checked(value, fields[name].type, f"{self.place}{name}"))
