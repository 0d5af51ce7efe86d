"""Numbers of a sentence that the repository's command or options have as it is: nothing is left to be said of them."""

from caravan.planning.spoken import spoken
from caravan.values.repo import ScriptOption
from tests.planning.scenes import builtin, numpy_profile


def test_a_number_that_the_command_has_is_not_said_to_be_unusable() -> None:
    profile = numpy_profile(
        launch_command="python train.py --img-size 640", options=(ScriptOption(flag="--width", default=512),)
    )
    assert spoken(profile, "train with 640 pixels", builtin()).told == ()
    assert spoken(profile, "train with 512 pixels", builtin()).told == ()
    assert len(spoken(profile, "train with 800 pixels", builtin()).told) == 1
