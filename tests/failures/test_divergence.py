"""Losses that are no numbers any more: the learning rate of the repository is really too large for its data."""

from pathlib import Path

from caravan.values.failure import FailureClass
from tests.failures.driving import Site, copied, edited, sets

DIVERGED = FailureClass.NUMERIC_DIVERGENCE


def steep(folder: Path, rate: float) -> Path:
    """The line, taught with that learning rate; from 1 on the offset runs away."""
    repository = copied("line", folder)
    edited(
        repository / "train.py",
        ('"--learning-rate", type=float, default=0.1', f'"--learning-rate", type=float, default={rate}'),
    )
    return repository


def test_a_smaller_learning_rate_converges(site: Site, tmp_path: Path) -> None:
    ended = site.run(steep(tmp_path, 2.4)).succeeded(DIVERGED)
    assert ended.changed() == {"training.lr": [2.4, 0.8]}
    assert ended.document["metrics"]["loss"] < 0.01


def test_a_rate_far_too_large_needs_two_repairs(site: Site, tmp_path: Path) -> None:
    ended = site.run(steep(tmp_path, 9.0)).succeeded(DIVERGED, DIVERGED)
    assert ended.document["metrics"]["loss"] < 0.01


def test_a_training_that_ends_well_but_has_no_loss_any_more(site: Site, tmp_path: Path) -> None:
    options = sets({"training.options.--keep-going": True})
    ended = site.run(steep(tmp_path, 2.4), *options).succeeded(DIVERGED)
    assert ended.attempts[0]["outcome"]["exit_code"] == 0
    assert ended.changed() == {"training.lr": [2.4, 0.8]}


def test_the_users_own_learning_rate_is_changed_only_when_they_agree(site: Site, tmp_path: Path) -> None:
    ended = site.run(copied("line", tmp_path), *sets({"training.lr": 2.4})).asks(DIVERGED)
    site.resume(ended, "--approve").succeeded(DIVERGED)


def test_a_rate_that_no_option_takes_can_not_be_repaired(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    edited(
        repository / "train.py",
        ('    parser.add_argument("--learning-rate", type=float, default=0.1)\n', ""),
        ("lr=args.learning_rate", "lr=2.4"),
    )
    site.run(repository).escalated(DIVERGED)


def test_a_healthy_run_in_which_one_step_overflowed(site: Site, tmp_path: Path) -> None:
    repository = copied("line", tmp_path)
    edited(
        repository / "train.py",
        ("    weights = {", '    print("step 0 grad_norm nan, skipped: loss nan")\n    weights = {'),
    )
    site.run(repository).succeeded()
