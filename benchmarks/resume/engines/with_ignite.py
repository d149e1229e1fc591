"""PyTorch Ignite: a `DeterministicEngine` with its handlers, and `Checkpoint.load_objects` to resume.

See https://docs.pytorch.org/ignite/engine.html#resuming-the-training.
"""

import ignite.distributed as idist
import task
import torch
from ignite.engine import Events, create_supervised_evaluator
from ignite.engine.deterministic import DeterministicEngine, keep_random_state
from ignite.handlers import Checkpoint, DiskSaver, EMAHandler, TensorboardLogger, global_step_from_engine
from ignite.metrics import Accuracy
from ignite.utils import manual_seed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def train(_, arguments):
    folder = arguments.folder
    manual_seed(arguments.seed)
    batches = idist.auto_dataloader(
        task.Images(training=True), batch_size=task.BATCH_SIZE, shuffle=True, num_workers=arguments.workers
    )
    val = idist.auto_dataloader(task.Images(training=False), batch_size=task.BATCH_SIZE)
    net = task.Net()
    model = idist.auto_model(net)
    optimizer = idist.auto_optim(
        torch.optim.AdamW(model.parameters(), task.LEARNING_RATE, weight_decay=task.WEIGHT_DECAY)
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.OPTIMIZER_STEPS)

    def is_step(_, iteration):
        batch = (iteration - 1) % len(batches) + 1
        return batch % task.ACCUMULATE == 0 or batch == len(batches)

    def is_save(_, iteration):
        return ((iteration - 1) % len(batches) + 1) % task.SAVE_EVERY == 0

    def step(engine, batch):
        model.train()
        images, labels = batch
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        (loss / task.ACCUMULATE).backward()
        if is_step(engine, engine.state.iteration):
            torch.nn.utils.clip_grad_norm_(model.parameters(), task.CLIP_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        return loss.item()

    trainer = DeterministicEngine(step)
    average = EMAHandler(net, momentum=1 - task.AVERAGE_DECAY, handle_buffers="copy")
    average.attach(trainer, event=Events.ITERATION_COMPLETED(event_filter=is_step))
    evaluator = create_supervised_evaluator(average.ema_model, metrics={"accuracy": Accuracy()})

    best = Checkpoint(
        {"model": average.ema_model},
        DiskSaver(folder / "best", require_empty=False),
        score_name="accuracy",
        score_function=lambda engine: engine.state.metrics["accuracy"],
        global_step_transform=global_step_from_engine(trainer),
    )
    state = {"trainer": trainer, "model": net, "ema": average.ema_model, "optimizer": optimizer, "schedule": schedule}
    newest = Checkpoint(
        {**state, "best": best},
        DiskSaver(folder, require_empty=False),
        n_saved=2,
        global_step_transform=global_step_from_engine(trainer, Events.ITERATION_COMPLETED),
        include_self=True,
    )
    evaluator.add_event_handler(Events.COMPLETED, best)

    @trainer.on(Events.EPOCH_STARTED)
    def shuffle(engine):
        if idist.get_world_size() > 1:
            batches.sampler.set_epoch(engine.state.epoch)

    @trainer.on(Events.EPOCH_COMPLETED)
    @keep_random_state
    def validate(_):
        evaluator.run(val)

    trainer.add_event_handler(Events.ITERATION_COMPLETED(event_filter=is_save) | Events.EPOCH_COMPLETED, newest)
    if idist.get_rank() == 0:
        logger = TensorboardLogger(log_dir=folder / "log")
        logger.attach_output_handler(
            evaluator,
            Events.COMPLETED,
            tag="val",
            metric_names=["accuracy"],
            global_step_transform=global_step_from_engine(trainer),
        )
        evaluator.add_event_handler(Events.COMPLETED, logger.writer.flush)
    if arguments.resume and (files := list(folder.glob("checkpoint_*.pt"))):
        path = max(files, key=lambda path: int(path.stem.split("_")[1]))
        # The random states of the engine contain a NumPy array.
        checkpoint = torch.load(path, weights_only=False)
        Checkpoint.load_objects({**newest.to_save, "checkpointer": newest}, checkpoint)
    trainer.run(batches, max_epochs=task.EPOCHS)
    if idist.get_rank() == 0:
        logger.close()
        log = EventAccumulator(str(folder / "log")).Reload()
        task.finish(
            model=net.state_dict(),
            averaged=average.ema_model.state_dict(),
            optimizer=optimizer.state_dict(),
            schedule=schedule.state_dict(),
            best=torch.load(folder / "best" / best.last_checkpoint),
            log=[(event.step, event.value) for event in log.Scalars("val/accuracy")],
        )


arguments = task.read_arguments()
with idist.Parallel(backend="gloo" if arguments.processes > 1 else None) as parallel:
    parallel.run(train, arguments)
