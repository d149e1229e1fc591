"""Translates `runner`, which sets the type and the length of the training loop."""

from footplate.openmmlab.first_generation.translation.draft import Draft, rule

_LOOPS = {True: ("EpochBasedTrainLoop", "max_epochs"), False: ("IterBasedTrainLoop", "max_iters")}
_KEYS = ("type", "max_epochs", "max_iters", "max_hours")
_RUNNERS = ("EpochBasedRunner", "IterBasedRunner", "Runner")


@rule("runner", "total_epochs", "total_iters")
def runner(draft: Draft) -> None:
    """Derives the type and length of the training loop from `runner`, `total_epochs` or `total_iters`.

    ```python
    runner = dict(type='IterBasedRunner', max_iters=80000)
    ```

    becomes

    ```python
    train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000)
    ```
    """
    given = draft.take("runner")
    totals = {key: draft.take(key) for key in ("total_epochs", "total_iters") if draft.remaining.get(key) is not None}
    loop, length_key = _LOOPS[draft.by_epoch]
    length = {} if draft.length is None else {length_key: draft.length}
    settings = dict(given or {})
    if settings.get("max_hours") is not None:
        length["max_hours"] = settings["max_hours"]
    draft.write_all("train_cfg", {"type": loop, **length})
    kind = settings.pop("type", "Runner")
    if kind not in _RUNNERS:
        draft.ask("runner.type", f"'{kind}' is not a built-in runner; only its length is kept, not its methods")
    for key, value in settings.items():
        if key not in _KEYS:
            draft.warn(f"runner.{key}", f"{value!r} has no counterpart and was removed", known=_KEYS)
    for key, value in totals.items():
        if key == draft.source:
            continue
        if value == draft.length:
            draft.became(key, f"train_cfg.{length_key}")
        else:
            draft.warn(key, f"{value} is ignored; the run uses {length_key}={draft.length}")
