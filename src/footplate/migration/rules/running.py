"""Translates the process, the seed, the start of a run, and the adapter of the model."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.migration.draft import Draft, section
from footplate.migration.key_map import RENAMED
from footplate.migration.rules.record import Rule

MODEL = "LegacyModel"
_LOOP_KEYS = ("by_epoch", "max_epochs", "max_iters", "val_interval", "val_begin")


def _rename(draft: Draft) -> None:
    """Moves keys that only have another name now."""
    for key, path in RENAMED.items():
        if (value := draft.take(key)) is not None:
            draft.write(path, value, key)
            draft.became(key, path)


def _backend(draft: Draft) -> None:
    """Translates how processes talk to each other."""
    given = draft.take("dist_params")
    if given:
        kept = {key: value for key, value in given.items() if key in ("backend", "timeout", "port")}
        draft.write("env_cfg.dist_cfg", section(kept, given), "dist_params")
        draft.became("dist_params", "env_cfg.dist_cfg")
        for key in given:
            if key not in kept:
                draft.warn(f"dist_params.{key}", "the launcher of the processes decides this")


def _beginning(draft: Draft) -> None:
    """Translates which checkpoint a run resumes from."""
    keys = [key for key in ("resume_from", "auto_resume") if key in draft.rest]
    path, auto = draft.take("resume_from"), draft.take("auto_resume")
    if auto is not None:
        check_flag("auto_resume", auto)
    told: dict[str, str] = {}
    other = "nothing: the run starts anew"
    if draft.rest.get("resume"):
        other = "nothing: resume says it already"
    elif path:
        if draft.rest.pop("load_from", None) is not None:
            draft.became("load_from", "nothing: a run that goes on has the weights of resume_from")
        draft.write("load_from", path, "resume_from")
        draft.write("resume", True, "resume_from")
        told, other = {"resume_from": "load_from with resume=True"}, "nothing: resume_from says where"
    elif auto:
        draft.write("resume", "auto", "auto_resume")
        told = {"auto_resume": "resume='auto': from the newest checkpoint of the work_dir, if there is one"}
        other = "nothing: auto_resume finds the checkpoint"
    for key in keys:
        draft.became(key, told.get(key, other))


def _device(draft: Draft) -> None:
    """Notes the settings that the machine and torchrun decide now."""
    kind, gpus = draft.take("device"), draft.take("gpu_ids")
    if kind is not None:
        wanted = str(kind).partition(":")[0]
        if draft.device is not None and wanted != draft.device:
            draft.warn("device", f"'{kind}' is asked for: the run is on '{draft.device}', which the machine decides")
        else:
            draft.became("device", "nothing: a run takes the accelerator that it finds")
    if gpus is None:
        return
    count = len(gpus) if isinstance(gpus, (list, tuple, range)) else 1
    if draft.device == "cpu" and count:
        draft.warn("gpu_ids", f"{list(gpus) if count > 1 else gpus} are not here: the run is on 'cpu'")
    elif count > 1:
        draft.warn("gpu_ids", f"{count} devices take torchrun --nproc-per-node {count}")
    else:
        draft.became("gpu_ids", "nothing: a run takes the accelerator that it finds")


def _model_settings(draft: Draft) -> None:
    """Moves settings of the model from the top level into the model."""
    for key in ("train_cfg", "test_cfg"):
        given = draft.rest.get(key)
        if key not in draft.rest or (isinstance(given, Mapping) and _is_loop(given)):
            continue
        draft.take(key)
        model = draft.rest.get("model")
        if given and isinstance(model, Mapping):
            draft.rest["model"] = section({key: given, **model}, model)
            draft.became(key, f"model.{key}")


def _is_loop(cfg: Mapping[str, Any]) -> bool:
    return any(key in cfg for key in _LOOP_KEYS) or str(cfg.get("type", "")).endswith("Loop")


def _model(draft: Draft) -> None:
    """Adds the adapter, which leaves a second-generation model unchanged."""
    if "model" in draft.rest:
        draft.write("model_adapter", {"type": MODEL}, "model")
        draft.became("model", f"itself: {MODEL} gives first-generation code the steps that the loops call")


RULES = (
    Rule(
        "renamed",
        "Settings of the process and of its random generators have sections of their own: env_cfg, randomness.",
        tuple(RENAMED),
        _rename,
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
    ),
    Rule(
        "dist-params",
        "The backend of distributed training stands in env_cfg.",
        ("dist_params",),
        _backend,
        before="dist_params = dict(backend='nccl')",
        after="env_cfg = dict(dist_cfg=dict(backend='nccl'))",
    ),
    Rule(
        "resume",
        "A run goes on from load_from where resume is True, and from its own newest checkpoint where it is 'auto'.",
        ("resume_from", "auto_resume"),
        _beginning,
        before="resume_from = 'work_dirs/run/epoch_3.pth'\nauto_resume = False",
        after="load_from = 'work_dirs/run/epoch_3.pth'\nresume = True",
    ),
    Rule(
        "device",
        "The machine and torchrun decide on devices.",
        ("device", "gpu_ids"),
        _device,
        before="device = 'cuda'\ngpu_ids = range(0, 1)",
        after="",
    ),
    Rule(
        "model-settings",
        "Settings of the model that stood beside it are the model's.",
        ("train_cfg", "test_cfg"),
        _model_settings,
        given="",
        before="model = dict(type='RPN')\ntest_cfg = dict(nms_pre=1000)",
        after="model = dict(test_cfg=dict(nms_pre=1000), type='RPN')",
    ),
    Rule(
        "model-adapter",
        "The model stays as it is; an adapter gives it the steps that the loops call.",
        ("model",),
        _model,
        given="model = dict(type='EncoderDecoder')",
        before="",
        after="model_adapter = dict(type='LegacyModel')",
    ),
)
