"""Classify handwritten digits: data, a model by name, a recipe, and the page of the run."""

import portable_nn as pnn

train, valid = pnn.data.load("digits")  # 1,797 real digits of 8x8 pixels, inside scikit-learn

result = pnn.train.fit(
    "lenet", train, valid,
    epochs=8, batch_size=32, augment="shift:1", optimizer="adamw", lr=0.005, schedule="one-cycle", warmup=0.3, ema=0.98,
)  # fmt: skip

wrong = [i for i, (said, is_) in enumerate(zip(result.evaluation.predictions, valid.labels, strict=True)) if said != is_]
print(f"accuracy {100 * result.valid_accuracy:.1f} %, wrong images {wrong[:5]}, everything else in {result.folder}/report.html")
assert result.valid_accuracy > 0.93
