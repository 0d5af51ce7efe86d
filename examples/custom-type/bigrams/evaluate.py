"""The mean surprise of a trained model on a text: `evaluate.py MODEL_FOLDER TEXT`."""

import json
import sys
from pathlib import Path

from counting import loss_and_gradient, pairs

if __name__ == "__main__":
    model = json.loads((Path(sys.argv[1]) / "model.json").read_text(encoding="utf-8"))
    text = Path(sys.argv[2]).read_text(encoding="utf-8")
    alphabet = sorted({*model["alphabet"], *text})
    loss, _ = loss_and_gradient(model["weights"], alphabet, pairs(text))
    print(json.dumps({"eval_loss": loss, "base": loss_and_gradient({}, alphabet, pairs(text))[0]}))
