"""Settings: what is accepted, what is refused and how that is told, and that they reach the options."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.errors import SettingsError
from deploy.paths import StatePaths
from deploy.settings import Settings
from deploy.settings_base import parse_size
from deploy.settings_docs import SCHEMA_FILE, json_schema
from deploy.settings_file import all_keys, dotted, load_settings, parse_settings, section_of
from deploy.wiring import monitor_options, serving_options
from monitoring.inference_options import InferenceOptions
from monitoring.integrations.options import IntegrationOptions
from monitoring.options import MonitorOptions
from serving.options import ServingOptions
from tests.support.source_tree import ROOT

PATHS = StatePaths(Path("state"))


def refused(text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, environ=environ)
    return caught.value.problems


def test_an_empty_file_means_the_defaults():
    assert parse_settings("") == parse_settings("# nothing\n") == Settings()


def test_the_defaults_are_the_options_own_defaults():
    serving = serving_options(Settings(), PATHS)
    assert serving == ServingOptions(registry=str(PATHS.registry), records=str(PATHS.records))
    monitor = monitor_options(Settings(), PATHS)
    url = f"sqlite:///{PATHS.monitor / 'monitor.db'}"
    assert monitor == MonitorOptions(
        records_root=PATHS.records,
        state_dir=PATHS.monitor,
        database_url=url,
        inference=InferenceOptions(url="http://127.0.0.1:8000"),  # this installation's own service
    )


@pytest.mark.parametrize(
    ("options", "section", "elsewhere"),
    [
        (ServingOptions, "serving", {"registry", "records", "capture", "privacy", "elsewhere"}),
        (
            MonitorOptions,
            "monitor",
            {
                "experiments",
                "records_root",
                "state_dir",
                "privacy",
                "integrations",
                "notify",
                "gate",
                "rollout",
                "loop",
            },
        ),
        (IntegrationOptions, "integrations", set()),
    ],
)
def test_every_option_has_a_setting(options: type, section: str, elsewhere: set[str]):
    def missing(kind: Any, model: Any, prefix: str) -> list[str]:
        found = []
        for field in dataclasses.fields(kind):
            if field.name in elsewhere and not prefix.count("."):
                continue
            if field.name not in model.model_fields:
                found.append(f"{prefix}.{field.name}")
                continue
            inner = section_of(model.model_fields[field.name].annotation)
            default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            if inner is not None and dataclasses.is_dataclass(default):
                found += missing(type(default), inner, f"{prefix}.{field.name}")
        return found

    assert missing(options, section_of(Settings.model_fields[section].annotation), section) == []


def test_values_reach_the_options():
    settings = parse_settings(
        """
        serving:
          port: 8123
          runtime: {prefer: [torchscript], device: "cuda:1"}
          limits: {body_bytes: 2 MiB}
          auth: {keys: [{name: ci, sha256: %s}]}
        capture: {durability: synced, sample: 0.25}
        monitor: {window_s: 30, cases: {flag_rate: 0.1}, database_url: "sqlite:////x.db"}
        """
        % ("ab" * 32)
    )
    serving, monitor = serving_options(settings, PATHS), monitor_options(settings, PATHS)
    assert serving.runtime.prefer == ("torchscript",)
    assert serving.runtime.device == "cuda:1"
    assert serving.limits.body_bytes == 2 << 20
    assert (serving.auth.keys[0].name, serving.auth.enabled) == ("ci", True)
    assert serving.capture is not None
    assert (serving.capture.durability.name, serving.capture.sample) == ("SYNCED", 0.25)
    assert (monitor.window_s, monitor.cases.flag_rate, monitor.database_url) == (30, 0.1, "sqlite:////x.db")
    assert serving_options(parse_settings("capture: {enabled: false}"), PATHS).capture is None


def test_an_unknown_key_is_refused_with_line_and_nearest_key():
    text = "state_dir: x\nserving:\n  host: 127.0.0.1\n  prot: 8001\n"
    assert refused(text) == ["hardcase.yaml:4:3: serving.prot: unknown key; did you mean 'serving.port'?"]


def test_a_key_of_another_section_is_pointed_to():
    assert refused("windw_s: 5") == ["hardcase.yaml:1:1: windw_s: unknown key; did you mean 'monitor.window_s'?"]
    assert refused("durability: async") == [
        "hardcase.yaml:1:1: durability: unknown key; did you mean 'capture.durability'?"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("serving:\n  port: many", "hardcase.yaml:2:3: serving.port: should be a valid integer"),
        ("serving:\n  port: 70000", "hardcase.yaml:2:3: serving.port: should be less than or equal to 65535"),
        ("serving: {limits: {rows: 0}}", "hardcase.yaml:1:20: serving.limits.rows: should be greater than or equal"),
        ("serving:\n  limits:\n    body_bytes: 3 parsecs", "hardcase.yaml:3:5: serving.limits.body_bytes: '3 parsecs'"),
        ("capture:\n- a", "hardcase.yaml:1:1: capture: should be a valid dictionary"),
        ("serving:\n  auth:\n    keys:\n    - name: a", "hardcase.yaml:4:7: serving.auth.keys[0].sha256: is missing"),
        ("monitor: {port: 8000}", "serving.port and monitor.port are both 8000"),
        ("serving: {port: 1, port: 2}", ":1:20: serving.port: given twice; the first is at hardcase.yaml:1:11"),
        ("serving: [", "hardcase.yaml:1:11: not valid YAML"),
        ("- serving", "hardcase.yaml:1:1: the file must hold keys and values"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("capture: {flush_interval_s: .nan}", "capture.flush_interval_s"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_place(text: str, expected: str):
    assert expected in refused(text)[0]


def test_all_problems_are_told_at_once():
    problems = refused("serving: {prot: 1}\nmonitor: {prt: 2, window_s: soon}\n")
    assert len(problems) == 3


def test_a_variable_overrides_the_file_and_is_named_when_it_is_wrong():
    text = "serving: {port: 8001}"
    environ = {"HARDCASE__SERVING__PORT": "8002", "HARDCASE__SERVING__MODELS": "[a, b]", "HARDCASE_OTHER": "x"}
    settings = parse_settings(text, environ=environ)
    assert (settings.serving.port, settings.serving.models) == (8002, ("a", "b"))
    assert "environment variable HARDCASE__SERVING__PORT: serving.port" in refused(text, HARDCASE__SERVING__PORT="x")[0]
    assert refused("", HARDCASE__MONITOR__PORTT="1") == [
        "environment variable HARDCASE__MONITOR__PORTT: monitor.portt: unknown key; did you mean 'monitor.port'?"
    ]
    assert "expected HARDCASE__SECTION__KEY" in refused("", HARDCASE__="1")[0]


def test_a_token_written_where_its_hash_belongs_is_not_shown():
    canary = "hunter2-canary"
    for text in (
        f"serving: {{auth: {{keys: [{{name: a, sha256: {canary}}}]}}}}",
        f"monitor: {{token_sha256: [{canary}]}}",
    ):
        assert canary not in "\n".join(refused(text))


def test_the_state_folder_is_relative_to_the_settings_file(tmp_path: Path):
    file = tmp_path / "etc" / "hardcase.yaml"
    file.parent.mkdir()
    file.write_text("state_dir: here")
    assert load_settings(file, {}, tmp_path).state == file.parent / "here"
    assert load_settings(None, {}, file.parent).file == file
    assert load_settings(None, {}, tmp_path).state == tmp_path / ".hardcase"
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "absent.yaml", {}, tmp_path)


def test_the_shipped_schema_is_current_and_agrees_with_the_model():
    shipped = json.loads((ROOT / SCHEMA_FILE).read_text())
    assert shipped == json_schema(), "run: python -m deploy.settings_docs"
    jsonschema.Draft202012Validator.check_schema(shipped)
    for text in ("{}", "serving: {port: 8001, limits: {body_bytes: 2 MiB}}", "ray: {address: null}"):
        jsonschema.validate(yaml.safe_load(text), shipped)
        parse_settings(text)
    for text in ("serving: {prot: 1}", "capture: {durability: never}", "serving: {port: 0}"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(text), shipped)
        refused(text)


def test_every_key_says_what_it_is():
    undocumented = []
    for key in all_keys():
        model: Any = Settings
        for part in key[:-1]:
            model = section_of(model.model_fields[part].annotation)
        if not model.model_fields[key[-1]].description and section_of(model.model_fields[key[-1]].annotation) is None:
            undocumented.append(dotted(key))
    assert not undocumented


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_any_yaml_is_accepted_or_refused_but_never_crashes(data: Any):
    problems: list[str] = []
    try:
        parse_settings(yaml.safe_dump(data))
    except SettingsError as error:
        problems = error.problems
    assert all(problem.startswith("hardcase.yaml") for problem in problems)


@given(st.integers(0, 1 << 40))
def test_sizes_mean_what_they_say(count: int):
    assert parse_size(f"{count}") == parse_size(f"{count} B") == count
    assert parse_size(f"{count}KiB") == count * 1024
