"""Training loops that override methods, with the signatures of mmengine's loops."""

from typing import Any

from footplate import LOOPS
from footplate.engine import EpochBasedTrainLoop, IterBasedTrainLoop


def iterate(loop: Any, idx: int, data_batch: Any) -> None:
    """Does the work of an iteration in place of a loop."""
    runner = loop.runner
    runner.call_hook("before_train_iter", batch_idx=idx, data_batch=data_batch)
    outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
    runner.call_hook("after_train_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)
    loop._iter += 1


@LOOPS.register_module()
class WholeIteration(EpochBasedTrainLoop):
    def run_iter(self, idx: int, data_batch: Any) -> None:
        iterate(self, idx, data_batch)


@LOOPS.register_module()
class WholeEpoch(EpochBasedTrainLoop):
    def run_epoch(self) -> None:
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for idx, data_batch in enumerate(self.dataloader):
            self.run_iter(idx, data_batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


@LOOPS.register_module()
class AroundEpoch(EpochBasedTrainLoop):
    def run_epoch(self) -> None:
        self.runner.message_hub.update_info("began", self._epoch)
        super().run_epoch()
        self.runner.message_hub.update_info("ended", self._epoch)


@LOOPS.register_module()
class AroundBoth(AroundEpoch):
    def run_iter(self, idx: int, data_batch: Any) -> None:
        super().run_iter(idx, data_batch)


@LOOPS.register_module()
class WholeRun(EpochBasedTrainLoop):
    def run(self) -> Any:
        self.runner.call_hook("before_train")
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            val_loop = self.runner.val_loop
            if val_loop is not None and self._epoch >= self.val_begin and self._epoch % self.val_interval == 0:
                val_loop.run()
        self.runner.call_hook("after_train")
        return self.runner.model


@LOOPS.register_module()
class WholeIterationByIteration(IterBasedTrainLoop):
    def run_iter(self, data_batch: Any) -> None:  # type: ignore[override]
        iterate(self, self._iter, data_batch)


@LOOPS.register_module()
class WholeRunByIteration(IterBasedTrainLoop):
    def run(self) -> Any:
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            data_batch = next(self.dataloader_iterator)
            self.run_iter(data_batch)
            self._decide_current_val_interval()
            val_loop = self.runner.val_loop
            if val_loop is not None and self._iter >= self.val_begin and self._iter % self.val_interval == 0:
                val_loop.run()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model


@LOOPS.register_module()
class SkippingRun(WholeRunByIteration):
    def run(self) -> Any:
        for _ in range(self._iter):
            next(self.dataloader_iterator)
        return super().run()


@LOOPS.register_module()
class UnseenDataRun(WholeRunByIteration):
    def run(self) -> Any:
        self.runner.call_hook("before_train")
        taken = iter(list(self.dataloader) * 9)
        while self._iter < self._max_iters:
            self.run_iter(next(taken))
        return self.runner.model


BY_EPOCH = [
    WholeIteration,
    WholeEpoch,
    AroundBoth,
    WholeRun,
]
BY_ITERATION = [
    WholeIterationByIteration,
    WholeRunByIteration,
]
