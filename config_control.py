"""`config set`, `unset`, `edit`, `trust`: the files of settings are changed here, with their comments kept.

What is written is checked as it will be read: a value that can't be used is not written.
"""

import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from caravan.values.errors import CaravanError, UsageError
from caravan.values.masking import MASK
from caravan.values.settings import ConfigPlace, Written
from config import Settings, editor, load_settings, user_config_folder
from config_files import NAME, ConfigFile, Found, Layer, Trust, parsed, read_config, working_directory, write_whole
from settings_layers import file_name, is_secret, known_name

_PROFILE: Final = "default_cluster"
_NEW: Final = "# Settings of Caravan: `main.py config --all` lists them (docs/settings.md).\n\n[settings]\n"


class ConfigControl:
    """The files of settings. `found` says which are in force; `named` is the one of the command line."""

    def __init__(self, found: Callable[[], Found], *, named: Path | None = None) -> None:
        self._found, self._named = found, named
        self._trust = Trust(user_config_folder())

    def places(self) -> list[ConfigPlace]:
        """Where settings can stand in files, the lowest first, and which of them are in force."""
        in_force = {file.path: file for file in self._found().files}
        every = [*in_force, self.path(here=False), *([self.path(here=True)] if working_directory() else [])]
        return [
            ConfigPlace(str(path), path.exists(), path in in_force, path in in_force and in_force[path].trusted)
            for path in dict.fromkeys(every)
        ]

    def path(self, *, here: bool) -> Path:
        """The file that is written: the user's, or the working directory's. Raises UsageError."""
        if self._named is not None and not here:
            return self._named.expanduser().absolute()
        folder = working_directory() if here else user_config_folder()
        if folder is None:
            raise UsageError("The working directory is gone.", hint="Go to another, or leave --here out.")
        return folder.resolve() / NAME if here else folder / NAME

    def is_secret(self, name: str) -> bool:
        """Whether the setting's value may be shown to nobody. Raises UsageError for one that there isn't."""
        fields = Settings.model_fields
        return _key(name) != _PROFILE and is_secret(fields[known_name(name, fields)])

    def set(self, name: str, value: str, *, here: bool) -> Written:
        """Write a value. Raises UsageError for a setting that there isn't, or a value that it does not take."""
        path = self.path(here=here)
        key = _key(name)
        field = Settings.model_fields.get(known_name(name, Settings.model_fields)) if key != _PROFILE else None
        secret = field is not None and is_secret(field)

        def change(document: Any) -> None:
            import tomlkit

            if key == _PROFILE:
                document[key] = value
                return
            if "settings" not in document:
                document["settings"] = tomlkit.table()
            document["settings"][key] = _value(value, field)

        written = self._change(path, change, here=here)
        return Written(str(path), key, MASK if secret else value, written)

    def unset(self, name: str, *, here: bool) -> Written:
        """Take a value out; nothing is written where it did not stand there. Raises UsageError."""
        path = self.path(here=here)
        key = _key(name)
        if key != _PROFILE:
            known_name(name, Settings.model_fields)
        if not path.exists() or key not in _table(parsed(path.read_bytes(), path), key):
            return Written(str(path), key, "", changed=False)

        def change(document: Any) -> None:
            del (document if key == _PROFILE else document["settings"])[key]

        return Written(str(path), key, "", self._change(path, change, here=here))

    def edit(self, *, here: bool) -> Written:
        """Open the file in the person's editor, and check it. Raises UsageError for what can't be used then."""
        path = self.path(here=here)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        trusted = not before or self._trust.knows(path.resolve(), before)
        if not before:
            write_whole(path, _NEW)
        command = shlex.split(editor())
        try:
            code = subprocess.run([*command, str(path)], check=False).returncode
        except OSError as error:
            raise UsageError(f"{command[0]} can't be started ({error.strerror}).", hint="Set EDITOR.") from error
        if code:
            raise UsageError(f"{command[0]} ended with {code}; {path} is as it left it.")
        text = path.read_text(encoding="utf-8")
        _check(path, text, stat.S_IMODE(path.stat().st_mode))
        if here and trusted:
            self._trust.give(path.resolve(), text)
        return Written(str(path), "", "", text != before)

    def trust(self, path: Path | None) -> Written:
        """Trust a file of settings as it stands now. Raises UsageError where it can't be used."""
        file = read_config(self._trusted_path(path), Layer.HERE)
        _check(file.path, file.text, file.mode)
        self._trust.give(file.path, file.text)
        names = [*file.settings, *(key for key in file.data if key != "settings")]
        return Written(str(file.path), ", ".join(map(str, names)), "", changed=True)

    def untrust(self, path: Path | None) -> Written:
        """Trust it no more."""
        place = self._trusted_path(path).resolve()
        return Written(str(place), "", "", self._trust.take(place))

    def _trusted_path(self, path: Path | None) -> Path:
        if path is None:
            return self.path(here=True)
        return path / NAME if path.is_dir() else path

    def _change(self, path: Path, change: Callable[[Any], None], *, here: bool) -> bool:
        """Change a file, its comments and mode kept; whether it is another now."""
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        place = path.resolve()  # a link to a file that is kept elsewhere stays one
        before, mode = "", 0o600
        if place.exists():
            file = read_config(place, Layer.HERE if here else Layer.USER, shown=str(path))
            before, mode = file.text, file.mode
        trusted = not before or self._trust.knows(place, before)
        try:
            document = tomlkit.parse(before)
            change(document)
            text = tomlkit.dumps(document)
        except (TOMLKitError, TypeError) as error:
            raise UsageError(f"{path} can't be changed: {error}.", hint="Change it by hand.") from error
        _check(path, text, mode)
        if text != before:
            write_whole(place, text, mode)
        if here and trusted:
            self._trust.give(place, text)
        return text != before


def _key(name: str) -> str:
    if name.strip().lower() == _PROFILE:
        return _PROFILE
    return file_name(Settings.model_fields[known_name(name, Settings.model_fields)])


def _table(document: dict[str, Any], key: str) -> Any:
    table = document if key == _PROFILE else document.get("settings", {})
    return table if isinstance(table, dict) else {}


def _value(text: str, field: Any) -> Any:
    """A value of the command line as TOML has it: a number, a truth, a list, or a text."""
    kind = str(field.annotation)
    if "BaseImage" in kind:
        return parsed(f"value = {text}".encode(), Path("VALUE"))["value"]
    if "bool" in kind and text.lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return text.lower() in ("true", "yes", "on", "1")
    for number in (int, float):
        if number.__name__ in kind or (number is int and "float" in kind):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _check(path: Path, text: str, mode: int) -> None:
    """What the file would come to, read alone. Raises UsageError."""
    from profiles import profiles_in

    document = parsed(text.encode(), path)
    found = Found((ConfigFile(path, Layer.USER, document, text, mode, str(path)),))
    try:
        load_settings(found, environment={})
    except CaravanError as error:
        raise UsageError(error.message, hint=error.hint) from error
    profiles_in(found)
