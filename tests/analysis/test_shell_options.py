from hypothesis import given
from hypothesis import strategies as st

from caravan.analysis.shell_options import set_whatever, shell_options

SCRIPT = """#!/bin/bash
# EPOCHS=${EPOCHS:-9} is only talked about
BATCH_SIZE=${BATCH_SIZE:-8}
export LR="${LR:-1e-4}"
: "${OUTPUT_DIR:=runs}"
SEED=3
GPUS=4
python train.py --batch-size "$BATCH_SIZE" --lr $LR --seed ${SEED:-1} --epochs ${EPOCHS-3} --gpus $GPUS "$@"
"""


def test_variables_with_a_default_are_the_callers() -> None:
    found = {o.flag: o.default for o in shell_options(SCRIPT)}
    assert found == {"$BATCH_SIZE": 8, "$LR": 1e-4, "$OUTPUT_DIR": "runs", "$EPOCHS": 3, "$@": None}


def test_variables_that_the_script_sets_whatever_is_said() -> None:
    assert set_whatever(SCRIPT) == {"SEED", "GPUS"}


@given(st.text("${}:-=AB \n'\"@1.e", max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    shell_options(text)
