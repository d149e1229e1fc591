"""Translates runtime settings, resuming, devices and the model adapter."""

from collections.abc import Mapping

from footplate.checks import check_flag
from footplate.first_generation.translation.draft import Draft, rule, with_origins
from footplate.first_generation.translation.key_map import RENAMED

_LOOP_KEYS = ("by_epoch", "max_epochs", "max_iters", "val_interval", "val_begin")


@rule(
    *RENAMED,
    before="""
cudnn_benchmark = True
mp_start_method = 'fork'
opencv_num_threads = 0
seed = 0
deterministic = True
""",
    after="""
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0, deterministic=True)
""",
)
def renamed(draft: Draft) -> None:
    """Moves process settings into `env_cfg` and random seed settings into `randomness`."""
    for key, path in RENAMED.items():
        if (value := draft.take(key)) is not None:
            draft.write(path, value, key)
            draft.became(key, path)


@rule(
    "dist_params",
    before="dist_params = dict(backend='nccl')",
    after="env_cfg = dict(dist_cfg=dict(backend='nccl'))",
)
def dist_params(draft: Draft) -> None:
    """Moves the settings for distributed training into `env_cfg`."""
    given = draft.take("dist_params")
    if given:
        kept = {key: value for key, value in given.items() if key in ("backend", "timeout", "port")}
        draft.write("env_cfg.dist_cfg", with_origins(kept, given), "dist_params")
        draft.became("dist_params", "env_cfg.dist_cfg")
        for key in given:
            if key not in kept:
                draft.warn(f"dist_params.{key}", "has no effect; the launcher determines this setting")


@rule(
    "resume_from",
    "auto_resume",
    before="resume_from = 'work_dirs/run/epoch_3.pth'\nauto_resume = False",
    after="load_from = 'work_dirs/run/epoch_3.pth'\nresume = True",
)
def resume(draft: Draft) -> None:
    """Sets `load_from` and `resume=True`, or `resume='auto'` to use the newest checkpoint in the work_dir."""
    keys = [key for key in ("resume_from", "auto_resume") if key in draft.remaining]
    path, auto = draft.take("resume_from"), draft.take("auto_resume")
    if auto is not None:
        check_flag("auto_resume", auto)
    texts: dict[str, str] = {}
    default = "removed: the run does not resume"
    if draft.remaining.get("resume"):
        default = "removed: resume is already set"
    elif path:
        if draft.remaining.pop("load_from", None) is not None:
            draft.became("load_from", "removed: a resumed run loads the weights of resume_from")
        draft.write("load_from", path, "resume_from")
        draft.write("resume", True, "resume_from")
        texts, default = {"resume_from": "load_from with resume=True"}, "removed: resume_from selects the checkpoint"
    elif auto:
        draft.write("resume", "auto", "auto_resume")
        texts = {"auto_resume": "resume='auto', which resumes from the newest checkpoint in work_dir, if any"}
        default = "removed: auto_resume finds the checkpoint"
    for key in keys:
        draft.became(key, texts.get(key, default))


@rule(
    "device",
    "gpu_ids",
    before="device = 'cuda'\ngpu_ids = range(0, 1)",
)
def device(draft: Draft) -> None:
    """Removes device settings, because the machine and torchrun determine the devices."""
    kind, gpus = draft.take("device"), draft.take("gpu_ids")
    if kind is not None:
        wanted = str(kind).partition(":")[0]
        if draft.device is not None and wanted != draft.device:
            draft.warn("device", f"ignoring '{kind}'; the run uses '{draft.device}', the device of this machine")
        else:
            draft.became("device", "removed: a run uses the available accelerator")
    if gpus is None:
        return
    count = len(gpus) if isinstance(gpus, (list, tuple, range)) else 1
    if draft.device == "cpu" and count:
        draft.warn("gpu_ids", f"ignoring {list(gpus) if count > 1 else gpus}; the run uses the CPU")
    elif count > 1:
        draft.warn("gpu_ids", f"to train on {count} devices, use torchrun --nproc-per-node {count}")
    else:
        draft.became("gpu_ids", "removed: a run uses the available accelerator")


@rule(
    "train_cfg",
    "test_cfg",
    before="model = dict(type='RPN')\ntest_cfg = dict(nms_pre=1000)",
    after="model = dict(test_cfg=dict(nms_pre=1000), type='RPN')",
)
def model_settings(draft: Draft) -> None:
    """Moves the model's top-level `train_cfg` and `test_cfg` into `model`."""
    for key in ("train_cfg", "test_cfg"):
        given = draft.remaining.get(key)
        if key not in draft.remaining:
            continue
        if isinstance(given, Mapping) and (
            any(each in given for each in _LOOP_KEYS) or str(given.get("type", "")).endswith("Loop")
        ):
            continue
        draft.take(key)
        model = draft.remaining.get("model")
        if given and isinstance(model, Mapping):
            draft.remaining["model"] = with_origins({key: given, **model}, model)
            draft.became(key, f"model.{key}")


@rule(
    "model",
    given="model = dict(type='EncoderDecoder')",
    after="model_adapter = dict(type='LegacyModel')",
)
def model_adapter(draft: Draft) -> None:
    """Adds an adapter with the step methods that the loops call. The model is unchanged."""
    if "model" in draft.remaining:
        draft.write("model_adapter", {"type": "LegacyModel"}, "model")
        draft.became("model", "unchanged; the adapter LegacyModel adds the step methods that the loops call")
