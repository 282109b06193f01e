"""A table or a row's weights go to a real HTTP server that answers as huggingface.co does."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from fake_hub import TOKEN, Hub, fake_hub
from lab import Lab, assert_clear, finished

from experiments.ask.check import check
from experiments.plan.request import Request, stored_request
from experiments.show.publish import PublishError, Target, files_of, publish
from experiments.show.published import stage_row, stage_table
from experiments.store.bundles import unbundle
from experiments.store.store import Store

hub_library = pytest.importorskip(
    "huggingface_hub", reason=".venv/bin/python -m pip install huggingface_hub installs it"
)
ROW = "full"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The service, a token for it, and large files by LFS (the fake speaks no Xet)."""
    from huggingface_hub import constants

    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something to upload: a page and a large file."""
    folder = tmp_path / "folder"
    (folder / "runs").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# One\n")
    (folder / "runs/weights.pth").write_bytes(bytes(range(256)) * 100)
    return folder


def request_of(lab: Lab) -> Request:
    return stored_request("smoke", None, lab.results, registry=[lab.registry])


def refused(folder: Path, to: str = "hf:me/one") -> str:
    with pytest.raises(PublishError) as caught:
        publish(folder, Target.parse(to, "model"), "One")
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_all_files_arrive_and_the_same_again_changes_nothing(service: Hub, folder: Path) -> None:
    target = Target.parse("hf:me/one", "model")
    assert publish(folder, target, "One", private=True).changed
    repository = service.repositories["models/me/one"]
    assert repository.private
    names = [name for name, _ in files_of(folder)]
    assert repository.files == {name: (folder / name).read_bytes() for name in names}
    again = publish(folder, target, "One")
    assert (again.changed, again.url) == (False, f"{service.address}/me/one")
    assert len(repository.commits) == 2  # the empty repository's and ours


def test_what_arrived_before_an_error_is_not_sent_again(service: Hub, folder: Path) -> None:
    service.failing_commits = 1
    assert "500" in (sentence := refused(folder))
    assert "give the same command again" in sentence
    assert service.repositories["models/me/one"].files == {}, "all or nothing"
    assert publish(folder, Target.parse("hf:me/one", "model"), "One").changed
    assert len(service.uploads) == 1


@pytest.mark.parametrize("to", ["me/one", "hf:one", "hf:me/one/two", "hf:", "hf:me/../x", "s3:a/b"])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(to: str) -> None:
    with pytest.raises(PublishError, match="--to takes hf:USER/NAME"):
        Target.parse(to, "model")


def test_each_refusal_says_what_to_do_next(
    service: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "a repository of theirs" in refused(folder, "hf:somebody/one")
    assert "is no name there" in refused(folder, "hf:me/a--b")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "hf auth login" in refused(folder)
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in refused(folder)
    assert service.repositories == {}


def test_without_a_network_it_says_so(
    service: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound and not listening: refuses
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert "cannot be reached" in (sentence := refused(folder))
    assert "mend the network" in sentence


def test_a_table_is_published_as_its_bundle(trained: Lab, service: Hub, tmp_path: Path) -> None:
    pytest.importorskip("rocrate", reason=".venv/bin/python -m pip install rocrate installs it")
    staged = tmp_path / "staged"
    stage_table(request_of(trained), "pair", staged)
    publish(staged, Target.parse("hf:me/pair", "dataset"), "Pair")
    files = service.repositories["datasets/me/pair"].files
    assert set(files) == {"README.md", "pair-smoke.zip"}
    (tmp_path / "got.zip").write_bytes(files["pair-smoke.zip"])
    assert unbundle(tmp_path / "got.zip", tmp_path / "theirs") > 0


@pytest.fixture
def staged(trained: Lab, tmp_path: Path) -> Path:
    """A row's folder as it is uploaded."""
    out = tmp_path / "staged"
    stage_row(request_of(trained), "pair", ROW, "me/one", out)
    return out


def test_a_rows_folder_is_a_results_folder_with_its_weights(trained: Lab, staged: Path) -> None:
    (run_id,) = Store(staged).run_ids()
    assert Store(staged).read(run_id) == trained.store.read(run_id)
    weights = torch.load(staged / "runs" / run_id / "weights.pth", weights_only=True)
    assert weights
    assert (staged / "LICENSE").is_file()


def test_the_card_has_the_metadata_that_the_service_reads(trained: Lab, staged: Path) -> None:
    (run_id,) = Store(staged).run_ids()
    record = trained.store.read(run_id)
    assert record is not None
    _, metadata, text = (staged / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(metadata)
    assert card["license"] == "apache-2.0"
    assert card["library_name"] == "ssa-seg-lab"
    assert card["datasets"] == ["scenes"]
    ((result,),) = ([each] for each in card["model-index"][0]["results"])
    assert result["metrics"][0]["type"] == "mean_iou"
    assert result["metrics"][0]["value"] == pytest.approx(record.scores.miou, abs=0.005)
    assert hub_library.ModelCard((staged / "README.md").read_text()).data.eval_results
    told = ("do not compare with the publication's", "profile smoke", "of the one seed 0")
    for words in (run_id, *told):
        assert words in text


def test_check_holds_the_card_against_the_records(trained: Lab, staged: Path) -> None:
    request, card = request_of(trained), staged / "README.md"
    checked = check(request, [card])
    assert checked.findings == []
    assert checked.agreeing >= 3  # mIoU in the metadata and in the text, the gain
    text = card.read_text()
    value = re.search(r"value: (\d+\.?\d*)", text)
    assert value is not None
    card.write_text(text.replace(value.group(), "value: 99.99"))
    assert [finding.fault for finding in check(request, [card]).findings] == ["differs"]


def test_a_row_without_its_weights_says_where_to_get_them(trained: Lab, tmp_path: Path) -> None:
    lab = trained.copy(tmp_path / "results")
    for run in lab.runs:
        run.weights.unlink()
    with pytest.raises(PublishError, match=r"weights\.pth is gone.*--results DIR"):
        stage_row(request_of(lab), "pair", ROW, "me/one", tmp_path / "staged")


def test_a_dry_run_needs_no_token_and_lists_every_file(trained: Lab) -> None:
    words = [
        "publish",
        "pair",
        "--to",
        "hf:me/one",
        "--row",
        ROW,
        "--dry-run",
        "--profile",
        "smoke",
    ]
    folders = ["--registry", str(trained.registry), "--results", str(trained.results)]
    variables = trained.environment | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": ""}
    said = finished([*trained.command("list")[:5], *words, *folders], **variables)
    assert_clear(said, 0, "README.md", "weights.pth", "record.json", "Nothing was uploaded")
