"""Translates model settings."""

from collections.abc import Mapping

from footplate_openmmlab.first_generation.translation.draft import Draft, rule, with_origins

_LOOP_KEYS = ("by_epoch", "max_epochs", "max_iters", "val_interval", "val_begin")


@rule("train_cfg", "test_cfg")
def model_settings(draft: Draft) -> None:
    """Moves the model settings in top-level `train_cfg` and `test_cfg` into `model`.

    ```python
    model = dict(type='RPN')
    test_cfg = dict(nms_pre=1000)
    ```

    becomes

    ```python
    model = dict(test_cfg=dict(nms_pre=1000), type='RPN')
    ```
    """
    for key in ("train_cfg", "test_cfg"):
        given, model = draft.remaining.get(key), draft.remaining.get("model")
        if isinstance(given, Mapping) and (
            any(each in given for each in _LOOP_KEYS) or str(given.get("type", "")).endswith("Loop")
        ):
            continue
        draft.remaining.pop(key, None)
        if given and isinstance(model, Mapping):
            draft.remaining["model"] = with_origins({key: given, **model}, model)
            draft.became(key, f"removed: model.{key} is set" if key in model else f"model.{key}")


@rule("model")
def model_adapter(draft: Draft) -> None:
    """Adds an adapter that provides the step methods called by the loops. Does not change `model`.

    ```python
    model_adapter = dict(type='LegacyModel')
    ```

    in a config with

    ```python
    model = dict(type='EncoderDecoder')
    ```
    """
    if "model" in draft.remaining:
        draft.write("model_adapter", {"type": "LegacyModel"})
