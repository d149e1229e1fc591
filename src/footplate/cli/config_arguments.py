"""Reads the config given on the command line, and applies `--set` and `--cfg-options`."""

from argparse import Namespace
from collections.abc import Collection, Sequence
from pathlib import Path

from footplate.config import Config, ConfigDict, imports
from footplate.extensions import extensions


def read_run_config(arguments: Namespace) -> Config:
    """Loads the config of a run and applies `--work-dir` and `--launcher`.

    The work_dir defaults to `work_dirs/<config name>`.
    """
    cfg = read_config(arguments)
    if getattr(arguments, "work_dir", None) is not None:
        cfg["work_dir"] = arguments.work_dir
    set_default_work_dir(cfg)
    if getattr(arguments, "launcher", None) is not None:
        cfg["launcher"] = arguments.launcher
    return cfg


def set_default_work_dir(cfg: Config) -> None:
    """Sets the work_dir to `work_dirs/<config name>` if the config does not set it."""
    if cfg.get("work_dir") is None:
        cfg["work_dir"] = str(Path("work_dirs") / Path(str(cfg.filename)).stem)


def read_config(arguments: Namespace, *, import_custom_modules: bool = True) -> Config:
    """Loads the config given in the arguments and applies the overrides.

    `import_custom_modules` specifies whether to import the modules that the config uses.
    """

    cfg = Config.fromfile(arguments.config, import_custom_modules=False)
    arguments.cfg = cfg  # errors refer to its keys
    return apply_override_arguments(cfg, arguments, import_custom_modules=import_custom_modules)


def apply_override_arguments(cfg: Config, arguments: Namespace, *, import_custom_modules: bool = True) -> Config:
    """Applies `--cfg-options` and `--set` to a config in place, and returns the config.

    `import_custom_modules` specifies whether to import the modules that the config uses.
    """

    def import_modules() -> None:
        if import_custom_modules:
            imports.import_modules(cfg)

    if not (arguments.cfg_options or arguments.set):
        import_modules()
        return cfg
    from footplate.engine.plan.top_level_keys import keys_of_both_generations
    from footplate.records import buffer_log
    from footplate.tools.config_keys import accepted_keys
    from footplate.tools.overrides import apply_overrides

    def accepted(mapping: ConfigDict, parts: Sequence[str]) -> Collection[str]:
        if any(extension.config_keys.intersection(mapping) for extension in extensions()):
            return () if parts else keys_of_both_generations()
        keys = accepted_keys(mapping, parts)
        if not keys:  # the class of the section may be in one of the user's modules
            import_modules()
        return keys or accepted_keys(mapping, parts)

    with buffer_log() as arguments.held_warnings:  # an error about the same key would repeat a warning
        apply_overrides(cfg, arguments.cfg_options, strict=False, accepted=accepted)
    apply_overrides(cfg, arguments.set, accepted=accepted)
    import_modules()
    return cfg
