"""Wraps modules that are not subclasses of BaseModel, such as timm and transformers models, for training."""

import inspect
import logging
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from typing_extensions import Self

from footplate.checks import check_takes
from footplate.data import has_target, split_target
from footplate.data.batch_contents import TARGET_KEYS, describe, scores_of
from footplate.distributed.wrappers import ModelWrapper
from footplate.error_context import add_note, at_key
from footplate.errors import ArgumentError
from footplate.messages import list_names, pluralize
from footplate.models.base_model import BaseModel, parse_losses
from footplate.models.plain_losses import losses_in, to_log
from footplate.models.preprocessor import BaseDataPreprocessor
from footplate.models.training_step import OPTIMIZERS, TrainStep, further_arguments, line_for_method
from footplate.module_selection import BATCH_NORMS
from footplate.registry import MODEL_WRAPPERS
from footplate.weighted import LoggedValues, Sum, Weighted

_logger = logging.getLogger("footplate.models")

PLAIN_FUNCTIONS = ("loss", "training_step", "validation_step")
"""The functions of a PlainModel, which are also Runner arguments."""
_ADVICE = (
    "Pass loss=..., a function of (output, target), or training_step=..., a function of (model, batch). In a config, "
    "derive the model from BaseModel instead."
)
_ADVICE_WITH_LOSS = (
    "With loss=..., a batch may contain only the arguments of forward and the target: the last entry of a tuple, or a "
    f"key named {', '.join(TARGET_KEYS[:-1])} or {TARGET_KEYS[-1]}. For other batches, pass training_step=..., a "
    "function of (model, batch)."
)
_VALIDATION_ADVICE = "Pass validation_step=..., a function of (model, batch) that returns the predictions."
_VALIDATION_LOSS_ADVICE = (
    "Pass validation_step=..., which returns predictions for val_evaluator or numbers as in {'loss': "
    "model(**batch).loss}, or loss=..., a function of (output, target). Or omit val_dataloader."
)


class _WholeBatch(BaseDataPreprocessor):
    """Moves a batch to the device and passes it to `forward` as a single argument."""

    def forward(self, data: Any, training: bool = False) -> Any:
        return (self.cast_data(data),)


@MODEL_WRAPPERS.register_module()
class PlainModel(ModelWrapper, BaseModel):
    """Wraps a torch module to add the step methods that the loops call. Its state dict is the module's own.

    The class is registered as a model wrapper, so that `unwrap_model` returns the module.

    The module receives a dict batch as keyword arguments, a list or tuple as positional arguments, and any other batch
    as its only argument. If there is a `loss`, the module does not receive the target; see `split_target`.

    The loss is computed as follows:

    | `training_step` | `loss` | loss in training | loss in validation |
    |---|---|---|---|
    | no | no | the module's output | the module's output |
    | no | yes | `loss(output, target)` | `loss(output, target)` |
    | yes | no | `training_step(module, batch)` | not available |
    | yes | yes | `training_step(module, batch)` | `loss(predictions, target)` |

    The result is a scalar tensor, an object with a `loss` attribute, or a dict of losses. Any value may be `Weighted`;
    a tuple of numbers is an error. In a dict, the entry "loss" is minimized and other scalars are only logged. If there
    is no such entry, all entries with "loss" in their name are summed. In a dict, a list of losses counts as its sum.

    `training_step` may accept two additional arguments, which are recognized by name. `step` is a `TrainStep`.
    `optimizers` (or `optimizer`) is the run's optimizer wrapper, or a mapping from names to wrappers. A function with
    this argument must step the optimizers itself, for example with `optimizers["generator"].update_params(loss)`. It
    may return a loss, a number or a dict of values to log. With several optimizers, each update computes gradients only
    for the parameters of the optimizer to step.

    Args:
        module: The module.
        loss: A function of the output and the target, such as `nn.CrossEntropyLoss()`. PyTorch's loss
            modules receive the `logits` of an output with this attribute, like the outputs of transformers models.
        training_step: A function that takes the module and the batch and returns the loss; see above. If it is set,
            `loss` is used only in validation.
        validation_step: A function that takes the module and the batch and returns the predictions. By default, the
            predictions are the module's output.

    Raises:
        ArgumentError: An argument is not a function or has the wrong signature, or the loss has parameters.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        loss: Callable[[Any, Any], Any] | None = None,
        training_step: Callable[..., Any] | None = None,
        validation_step: Callable[[nn.Module, Any], Any] | None = None,
    ) -> None:
        super().__init__(_WholeBatch())
        self._functions: dict[str, Any] = {
            "loss": loss,
            "training_step": training_step,
            "validation_step": validation_step,
        }
        _check_functions(self._functions)
        self.module: Any = module
        self.loss: Any = loss  # a loss module is registered, so that its buffers, such as class weights, are moved
        # The last column of the table. Without a `validation_step`, the output is also the prediction, which `val_loss`
        # can reuse.
        self._validation_loss: Literal["none", "of_output", "of_prediction"] = "of_prediction"
        if training_step is not None and loss is None:
            self._validation_loss = "none"
        elif training_step is None and validation_step is not None:
            self._validation_loss = "of_output"
        self._further_names = further_arguments(training_step)
        self._further_arguments: dict[str, Any] = {}  # their values in the current step
        self._latest_prediction: tuple[Any, Any, Any] | None = None  # data, batch and prediction, for `val_loss`
        self._in_evaluation_mode: list[nn.Module] = []  # the submodules that stay in it when the module trains
        self._knows_modes = False  # of the submodules
        self.training = module.training

    def forward(self, batch: Any, mode: str = "tensor") -> Any:
        """Returns a dict of losses in mode "loss", predictions in mode "predict", and otherwise the module's output."""
        training_step = self._functions["training_step"]
        validation_step = self._functions["validation_step"]
        if mode == "loss" and training_step is not None:
            return losses_in(training_step(self.module, batch, **self._further_arguments), "training_step")
        if mode == "loss":
            return self._losses_of(self._output(batch), batch)
        if mode == "predict" and validation_step is not None:
            return validation_step(self.module, batch)
        return self._output(batch)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Any]:
        """Runs one training step, and returns the values to log."""
        if not self._further_names:
            return super().train_step(data, optim_wrapper)
        step = TrainStep(next(iter(optim_wrapper.parts.values())).message_hub)
        self._further_arguments = {name: step if name == "step" else optim_wrapper for name in self._further_names}
        if self._further_arguments.keys().isdisjoint(OPTIMIZERS):
            logged = LoggedValues()
            logged.merge(super().train_step(data, optim_wrapper))
            logged.merge(step.values)
            return logged
        with optim_wrapper.optim_context(self):
            (batch,) = self.data_preprocessor(data, True)
            output = self._functions["training_step"](self.module, batch, **self._further_arguments)
        if isinstance(output, Tensor | numbers.Real | Weighted):
            output = {"loss": output}
        elif not isinstance(output, Mapping | None):
            output = losses_in(output, "training_step")
        for name, value in (output or {}).items():
            if name not in step.values:
                step.log(name, value)
        return step.values

    def val_step(self, data: Any) -> Any:
        """Returns the predictions for one batch, or None if there is only a `training_step`."""
        has_predictions = self._functions["validation_step"] is not None or self._validation_loss != "none"
        return self.test_step(data) if has_predictions else None

    def test_step(self, data: Any) -> Any:
        """Returns the predictions for one batch. If there is only a `training_step`, returns the module's output."""
        (batch,) = self.data_preprocessor(data, False)
        output = self(batch, mode="predict")
        if self._validation_loss == "of_prediction":
            self._latest_prediction = data, batch, output
        return output

    def val_loss(self, data: Any) -> dict[str, Tensor]:
        """Returns the values to log for one validation batch as scalar tensors, with the total loss as "loss".

        Raises:
            ArgumentError: There is a `training_step` but no `loss`.
        """
        if self._validation_loss == "none":
            raise ArgumentError(
                "validation cannot compute a loss, because training_step is only called in training",
                key="val_cfg.loss",
                notes=[_VALIDATION_LOSS_ADVICE],
            )
        predicted_data, batch, output = self._latest_prediction or (None, None, None)
        self._latest_prediction = None
        if predicted_data is not data:
            (batch,) = self.data_preprocessor(data, False)
            output = self(batch, mode="predict" if self._validation_loss == "of_prediction" else "tensor")
        return self.parse_losses(self._losses_of(output, batch))[1]

    def parse_losses(self, losses: Mapping[str, Any]) -> tuple[Tensor | Weighted, dict[str, Any]]:
        """Returns the total loss and the values to log. If there is a "loss" entry, only that entry is minimized."""
        if "loss" not in losses:
            return parse_losses(losses)
        loss, logged = parse_losses({"loss": losses["loss"]})
        others = {name: to_log(value) for name, value in losses.items() if name != "loss"}
        if not isinstance(logged, LoggedValues) and not any(
            isinstance(each, Weighted | Sum) for each in others.values()
        ):
            return loss, {**logged, **others}
        values = LoggedValues()
        values.merge(logged)
        values.merge(others)
        return loss, values

    def train(self, mode: bool = True) -> Self:
        """Sets training or evaluation mode, and frees the latest prediction.

        In a module in training mode, submodules that the user has put into evaluation mode, such as a frozen backbone,
        keep it. They also keep it after the whole module was in evaluation mode for validation.
        """
        self._latest_prediction = None
        if self.module.training:
            self._in_evaluation_mode = [part for part in self.module.modules() if not part.training]
        kept = [part for part in self._in_evaluation_mode if not part.training]
        if not self._knows_modes and (mode or self.module.training):
            _warn_of_modes(self.module)
            self._knows_modes = True
        super().train(mode)
        for part in kept:
            part.training = False
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the state dict of the module."""
        return self.module.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Loads a state dict into the module."""
        return self.module.load_state_dict(*args, **kwargs)

    def _output(self, batch: Any) -> Any:
        """Calls the module on a batch. The target is omitted if there is a loss function.

        With only a `training_step`, the target is omitted if `forward` does not accept it.
        """
        names = self._mask_inputs(batch)
        has_training_step = self._functions["training_step"] is not None
        omits_target = self.loss is not None or (has_training_step and self._mismatch(*_arguments(batch)))
        args, kwargs = _arguments(split_target(batch, names)[0] if omits_target and has_target(batch, names) else batch)
        try:
            return self.module(*args, **kwargs)
        except (TypeError, NotImplementedError) as error:
            mismatch = self._mismatch(args, kwargs)
            if not mismatch:
                raise
            raise ArgumentError(
                f"the forward method of '{type(self.module).__name__}' does not accept the batch: {mismatch}",
                found=list(kwargs) or pluralize(len(args), "positional argument"),
                notes=[
                    *([] if has_training_step else [self._advise()]),
                    *([] if self.training else [_VALIDATION_ADVICE]),
                ],
            ) from error

    def _mismatch(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Returns how the arguments differ from the signature of `forward`, or "" if it accepts them."""
        if type(self.module).forward is nn.Module.forward:  # in many a LightningModule
            return "it is not implemented"
        try:
            inspect.signature(self.module.forward).bind(*args, **kwargs)
        except TypeError as error:
            return str(error)
        return ""

    def _advise(self) -> str:
        """Returns advice for users whose module does not compute a loss in `forward`."""
        step = getattr(self.module, "training_step", None)  # for example, in a LightningModule
        if step is not None:
            return line_for_method(step)
        return _ADVICE if self.loss is None else _ADVICE_WITH_LOSS

    def _losses_of(self, output: Any, batch: Any) -> dict[str, Any]:
        if self.loss is None:
            return losses_in(output, f"the model '{type(self.module).__name__}'", self._advise)
        advice = "Pass training_step=..., a function of (model, batch), instead of `loss`."
        _, target = split_target(batch, self._mask_inputs(batch), advice=advice)
        forward = getattr(type(self.loss), "forward", None)
        if getattr(forward, "__module__", "") == "torch.nn.modules.loss":  # other losses may take any output
            output = scores_of(output)
        try:
            loss = self.loss(output, target)
        except Exception as error:
            if output is None:
                name = type(self.module).__name__
                raise ArgumentError(f"the forward method of '{name}' returned None: is a `return` missing?") from error
            inputs = f"output={str(describe(output)):.160}, target={str(describe(target)):.160}"
            add_note(error, f"The loss was called with {inputs}.")
            if isinstance(output, Mapping):
                add_note(error, "To select an entry, pass loss=lambda output, target: loss(output['logits'], target).")
            raise
        return losses_in(loss, "the loss function")

    def _mask_inputs(self, batch: Any) -> Collection[str]:
        """Returns the masks in a batch that `forward` takes, such as an attention mask. They are not the target."""
        masks = [key for key in ("mask", "masks") if isinstance(batch, Mapping) and key in batch]
        return masks and inspect.signature(self.module.forward).parameters.keys() & masks


def _check_functions(functions: Mapping[str, Any]) -> None:
    """Checks the functions of a PlainModel. `further_arguments` checks the arguments of a `training_step`."""
    for name, function in functions.items():
        if function is not None and (not callable(function) or isinstance(function, type)):
            raise ArgumentError(
                f"'{name}' must be a function or another callable object, not a class", key=name, found=function
            )
    loss = functions["loss"]
    if isinstance(loss, nn.Module) and next(loss.parameters(), None) is not None:
        raise ArgumentError(
            "the loss function has parameters, which would be neither trained nor saved",
            key="loss",
            found=type(loss),
            notes=["Make the loss a submodule of the model, and call it in `training_step`."],
        )
    for name, arguments in (("loss", ("output", "target")), ("validation_step", ("model", "batch"))):
        if functions[name] is not None:
            with at_key(name):
                check_takes(f"{name} must be a function of", functions[name], *arguments)


def _arguments(inputs: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Returns the positional and keyword arguments of the module for its inputs."""
    if isinstance(inputs, Mapping):
        return (), inputs
    return (inputs if isinstance(inputs, (list, tuple)) else (inputs,)), {}


def is_plain(model: Any) -> bool:
    """Checks whether a model lacks BaseModel's methods, so that it must be wrapped in a PlainModel.

    Also returns True for functions that build a model, because the model does not exist yet.
    """
    model = model.func if isinstance(model, partial) else model
    return callable(model) and not hasattr(model, "train_step")


def add_steps(model: Any, **functions: Any) -> Any:
    """Wraps a plain module in a PlainModel with the given functions. Returns other models unchanged.

    Raises:
        ArgumentError: `loss`, `training_step` or `validation_step` is set for a model that has its own `train_step`.
    """
    if is_plain(model):
        return PlainModel(model, **functions)
    for name, function in functions.items():
        if function is not None:
            raise ArgumentError(
                f"'{name}' has no effect: the model '{type(model).__name__}' has its own train_step", key=name
            )
    return model


def _warn_of_modes(module: nn.Module) -> None:
    """Logs a warning if modes have effects that are hardly intended.

    These are: training changes the running statistics of normalization layers without trainable weights, because the
    whole module is in evaluation mode; or a part with trainable weights stays in evaluation mode.
    """
    parts = [
        (name, part, any(weight.requires_grad for weight in part.parameters())) for name, part in module.named_modules()
    ]
    if not module.training:
        frozen = [
            name
            for name, part, is_trainable in parts
            if isinstance(part, BATCH_NORMS) and part.affine and part.track_running_stats and not is_trainable
        ]
        if frozen:
            _logger.warning(
                "The whole model was in evaluation mode before training, so training also updates the running "
                "statistics of normalization layers with frozen weights (%s). To keep them, call train() on the "
                "model, and then eval() on its frozen part.",
                list_names(frozen, 3),
            )
        return
    # A single normalization layer is often put into evaluation mode although its weights are trained.
    still = [name for name, part, is_trainable in parts if not part.training and is_trainable and any(part.children())]
    if still:
        _logger.warning(
            "'%s' has trainable weights but stays in evaluation mode, as from_pretrained leaves models: dropout is "
            "off, and running statistics do not change. If you do not want this, call train() on the model first.",
            still[0],
        )
