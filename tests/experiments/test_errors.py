"""The library's errors in the words of the command line."""

import sys
from typing import get_args

import pytest
from lab import assert_clear, finished

from experiments.errors import COMMANDS, sentence_of
from ssa.errors import Action, Remedy, SsaError


@pytest.mark.parametrize("action", get_args(Action))
def test_every_remedy_of_the_library_has_a_command(action):
    said = sentence_of(SsaError("It is missing.", remedy=Remedy(action, "camvid")))
    assert said.startswith("It is missing. ")
    assert "./run_all.sh" in said or "--" in said
    assert "{" not in said
    assert "camvid" in said or "{}" not in COMMANDS[action]


def test_without_a_remedy_an_error_says_what_it_says():
    assert sentence_of(SsaError("It is missing.")) == "It is missing."
    assert sentence_of(OSError("disk")) == "disk"


def test_the_command_line_adds_the_command_to_what_the_library_says(tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "experiments", "data"]
    root = ["--data-root", str(tmp_path / "data")]
    said = finished([*command, "prepare", "ade20k", *root])
    assert_clear(said, 1, "ADE20K needs a source folder", "data prepare ade20k --source DIR")
    said = finished([*command, "list", *root])
    assert_clear(said, 0, "No CamVid in", "data prepare camvid --source DIR")
