"""Keras 3 on PyTorch: `Model.fit` with the callbacks BackupAndRestore, SwapEMAWeights, ModelCheckpoint and CSVLogger.

The network of the task in Keras layers. `fit` restores a backup by itself, always at the start of an epoch.
"""

import csv
import os

import task
from torch.utils.data import DataLoader

arguments = task.read_arguments()
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = str(arguments.folder / "keras")

import keras  # noqa: E402
from keras import layers  # noqa: E402


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = keras.Sequential(
            [
                layers.Conv2D(16, 3, padding="same", data_format="channels_first"),
                layers.BatchNormalization(axis=1, momentum=0.9, epsilon=1e-5),
                layers.ReLU(),
                layers.Conv2D(32, 3, strides=2, padding="same", data_format="channels_first"),
                layers.BatchNormalization(axis=1, momentum=0.9, epsilon=1e-5),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(32, activation="relu"),
                layers.Dropout(0.3, seed=arguments.seed),
                layers.Dense(task.CLASSES),
            ]
        )

    def build(self, shape):
        self.body.build(shape)
        self.seen = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="seen")

    def compute_output_shape(self, shape):
        return (shape[0], task.CLASSES)

    def call(self, images, training=False):
        if training:
            task.record_batch(images, int(self.seen))
            self.seen.assign_add(1)
        elif images.device.type != "meta":  # where Keras only asks for shapes
            task.record_validation()
        logits = self.body(images, training=training)
        if training and logits.requires_grad:
            logits.register_hook(lambda _: task.attack_at("backward"))
        return logits


keras.utils.set_random_seed(arguments.seed)
train = DataLoader(task.Images(training=True), task.BATCH_SIZE, shuffle=True, num_workers=arguments.workers)
val = DataLoader(task.Images(training=False), task.BATCH_SIZE)
model = Net()
model.build((None, 3, 16, 16))
batches = task.EPOCHS * len(train)
optimizer = keras.optimizers.AdamW(
    keras.optimizers.schedules.CosineDecay(task.LEARNING_RATE, batches),
    weight_decay=task.WEIGHT_DECAY,
    global_clipnorm=task.CLIP_NORM,
    use_ema=True,
    ema_momentum=task.AVERAGE_DECAY,
    gradient_accumulation_steps=task.ACCUMULATE,
)
model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])


def read_log():
    """Returns each validated epoch with its accuracy."""
    path = arguments.folder / "log.csv"
    lines = csv.DictReader(path.read_text().splitlines() if path.exists() else [])
    return [(int(line["epoch"]), float(line["val_accuracy"])) for line in lines]


model.fit(
    train,
    validation_data=val,
    epochs=task.EPOCHS,
    verbose=0,
    callbacks=[
        keras.callbacks.BackupAndRestore(arguments.folder / "backup", double_checkpoint=True),
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        keras.callbacks.ModelCheckpoint(
            arguments.folder / "best.weights.h5",
            monitor="val_accuracy",
            mode="max",
            save_best_only=True,
            save_weights_only=True,
            initial_value_threshold=max((accuracy for _, accuracy in read_log()), default=None),
        ),
        keras.callbacks.CSVLogger(arguments.folder / "log.csv", append=arguments.resume),
    ],
)
final = {variable.path: variable.value.detach().clone() for variable in model.variables}
moments = {variable.path: variable.value.detach().clone() for variable in optimizer.variables}
rate = float(optimizer.learning_rate)
# The file of the best weights also has the optimizer's state, which this replaces.
model.load_weights(arguments.folder / "best.weights.h5")
task.finish(
    model=final,
    optimizer=moments,
    schedule=rate,
    # `fit` ends with the averaged weights in the model.
    averaged=final,
    best={variable.path: variable.value.detach() for variable in model.variables},
    log=read_log(),
)
