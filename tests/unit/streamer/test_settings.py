from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import SettingsError
from streamer.settings import Settings, describe, load, to_toml, update

SCRIPTS_RELY_ON = [
    "frames.endpoint", "frames.pattern", "frames.bind", "frames.protocol", "results.endpoint", "control.endpoint",
    "flow.enabled", "flow.step_px", "blur.tolerance_px", "engine.kind", "engine.workers", "pixel_size_nm"]


def test_every_setting_that_scripts_rely_on_exists() -> None:
    assert set(SCRIPTS_RELY_ON) <= set(describe())


def test_page_is_complete_valid_and_reads_back(tmp_path: Path) -> None:
    page = to_toml()
    tree = tomllib.loads(page)
    for key in describe():
        section, _, name = key.rpartition(".")
        assert name in (tree[section] if section else tree)
    path = tmp_path / "settings.toml"
    path.write_text(page)
    assert load(path) == Settings()


def test_page_tells_text_unit_range_and_default_of_each() -> None:
    page = to_toml()
    for setting in describe().values():
        assert setting.text
        assert f"# {setting.text}\n" in page
        assert setting.allowed in page
        assert not setting.unit or f"[{setting.unit}]" in page


def test_changed_settings_survive_the_page(tmp_path: Path) -> None:
    changed = load(assignments=["frames.pattern=pull", "blur.tolerance_px=2", "flow.enabled=false",
                                'frames.endpoint="tcp://10.0.0.1:1234"'])
    path = tmp_path / "settings.toml"
    path.write_text(to_toml(changed))
    assert load(path) == changed
    assert (changed.frames.pattern, changed.blur.tolerance_px, changed.flow.enabled) == ("pull", 2.0, False)


def test_assignment_wins_over_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[blur]\ntolerance_px = 5.0\n")
    assert load(path, ["blur.tolerance_px=4"]).blur.tolerance_px == 4.0
    assert load(path).blur.tolerance_px == 5.0


@pytest.mark.parametrize(("assignment", "words"), [
    ("blur.tolerence_px=3", ["blur.tolerence_px", "did you mean 'blur.tolerance_px'"]),
    ("tolerance_px=3", ["did you mean 'blur.tolerance_px'"]),
    ("blur.tolerance_px=-1", ["blur.tolerance_px", "-1", "0.1 to 100", "default 3.0"]),
    ("blur.tolerance_px=many", ["'many'", "a number"]),
    ("blur.tolerance_px=nan", ["nan"]),
    ("frames.pattern=pul", ["'pul'", "'sub', 'pull'", "did you mean 'pull'"]),
    ("flow.enabled=1", ["flow.enabled", "true or false"]),
    ("engine.workers=1.5", ["engine.workers", "whole number"]),
    ("engine.workers=true", ["engine.workers", "whole number"]),
    ("no equals sign", ["KEY=VALUE"]),
    ("notify.command=logger", ["'logger'", "a list of texts", "default []"]),
    ("notify.command=[1]", ["notify.command", "a list of texts"]),
    ("notify.webhook_severity=MAYOR", ["did you mean 'MAJOR'"]),
])
def test_a_wrong_assignment_is_refused_with_key_value_range_and_nearest(assignment: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(assignments=[assignment])
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_of_texts_survive_the_page(tmp_path: Path) -> None:
    changed = load(assignments=['notify.command=["/bin/echo", "a \\"b\\" {text}", ""]'])
    path = tmp_path / "settings.toml"
    path.write_text(to_toml(changed))
    assert load(path) == changed
    assert changed.notify.command == ("/bin/echo", 'a "b" {text}', "")


def test_a_masked_page_shows_how_many_secrets_there_are_and_none_of_them() -> None:
    changed = load(assignments=["notify.webhook_url=https://host/SECRET",
                                'notify.apprise_urls=["slack://SECRET", "mailto://SECRET"]'])
    tree = tomllib.loads(to_toml(changed, masked=True))
    assert tree["notify"]["webhook_url"] == "***"
    assert tree["notify"]["apprise_urls"] == ["***", "***"]
    assert "SECRET" not in to_toml(changed, masked=True)
    assert to_toml(masked=True) == to_toml()


def test_a_refused_secret_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load(assignments=["notify.apprise_urls=slack://SECRET"])
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [
    ("[blur\n", ["not valid TOML"]),
    ("[blur]\nwhat = 1\n", ["blur.what"]),
    ("frames = 3\n", ["unknown setting 'frames'"]),
])
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(path)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


@given(st.sampled_from(sorted(describe())), st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2)))
def test_any_value_is_taken_or_refused_in_words(key: str, value: object) -> None:
    try:
        changed = update(Settings(), {key: value})
    except SettingsError as refusal:
        words = str(refusal)
    else:
        assert update(Settings(), _flat(tomllib.loads(to_toml(changed)))) == changed
        return
    assert key in words


def _flat(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
