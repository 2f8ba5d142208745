from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from configs.base_config import (
    BaseConfig,
    ConfigError,
    apply_overrides,
    check_fields,
    class_to_dict,
    update_from_dict,
)


class RobotCfg(BaseConfig):
    seed = 1

    class env:
        num_envs = 4
        name = "plain"

        class limits:
            speed = 0.5
            ranges = (0.0, 1.0)
            gains = {"hip": 1.0, "knee": 2.0}
            file: str | None = None
            cap: float | None = 0.5


class FastCfg(RobotCfg):
    class env(RobotCfg.env):
        num_envs = 8

        class limits(RobotCfg.env.limits):
            speed = 2.0


def test_a_derived_configuration_keeps_what_it_does_not_change() -> None:
    cfg = FastCfg()
    assert (cfg.env.num_envs, cfg.env.limits.speed) == (8, 2.0)
    assert (cfg.seed, cfg.env.name, cfg.env.limits.ranges) == (1, "plain", (0.0, 1.0))


def test_instances_share_nothing() -> None:
    first, second = RobotCfg(), RobotCfg()
    first.env.num_envs = 16
    first.env.limits.gains["hip"] = 5.0
    copied = copy.deepcopy(first)
    copied.env.limits.speed = 9.0
    assert (second.env.num_envs, RobotCfg.env.num_envs) == (4, 4)
    assert second.env.limits.gains["hip"] == RobotCfg.env.limits.gains["hip"] == 1.0
    assert (first.env.limits.speed, copied.env.num_envs) == (0.5, 16)


def test_assigning_an_unknown_field_suggests_the_right_one() -> None:
    cfg = FastCfg()
    with pytest.raises(ConfigError, match=r"FastCfg\.env has no field 'num_env'; did you mean 'num_envs'\?"):
        cfg.env.num_env = 3  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"limits has no field 'sped'; did you mean 'speed'"):
        cfg.env.limits.sped = 3.0  # type: ignore[attr-defined]


def test_overrides_set_fields_and_entries() -> None:
    cfg: Any = RobotCfg()
    overrides = ["env.limits.speed=2", "env.limits.ranges=[-1, 1]", "env.limits.gains.hip=3", "env.name=rough"]
    apply_overrides(cfg, [*overrides, "env.limits.file=a/b.pt", " seed = 7"])
    assert cfg.env.limits.speed == 2.0 and isinstance(cfg.env.limits.speed, float)
    assert cfg.env.limits.ranges == (-1, 1)
    assert cfg.env.limits.gains == {"hip": 3.0, "knee": 2.0}
    assert [cfg.env.name, cfg.env.limits.file, cfg.seed] == ["rough", "a/b.pt", 7]
    apply_overrides(cfg, ["env.limits.cap=None", "env.limits.file=none"])
    assert cfg.env.limits.cap is None and cfg.env.limits.file is None
    apply_overrides(cfg, ["env.limits.cap=1.5"])
    assert cfg.env.limits.cap == 1.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env.limits.sped=1", r"RobotCfg\.env\.limits has no field 'sped'; did you mean 'speed'"),
        ("envs.num_envs=1", r"RobotCfg has no field 'envs'; did you mean 'env'"),
        ("env.limits.gains.hips=1", r"gains has no field 'hips'; did you mean 'hip'"),
        ("env.num_envs=many", r"RobotCfg\.env\.num_envs is a int \(4\), not 'many'"),
        ("env.num_envs=1.5", r"num_envs is a int"),
        ("env.limits.speed=true", r"speed is a float \(0\.5\), not True"),
        ("env=3", r"RobotCfg\.env is a section"),
        ("env.num_envs.more=3", r"RobotCfg\.env\.num_envs is a int and has no fields such as 'more'"),
        ("env.num_envs", r"'env\.num_envs' is not of the form"),
        ("env.limits.speed={[]:1}", r"speed is a float \(0\.5\), not '\{\[\]:1\}'"),
        ("env.limits.speed=1e999", r"speed must be a finite number, got inf"),
        ("env.limits.speed=1" + 400 * "0", r"speed must be a finite number, got 1000"),
        ("env.limits.speed=" + 1000 * "[", r"speed is a float \(0\.5\), not '\[\[\["),
        ("env.limits.speed=" + 1000 * "[" + 1000 * "]", r"speed is a float \(0\.5\), not '\[\[\["),
        ("env.limits.speed=" + 4000 * "-" + "1", r"speed is a float \(0\.5\), not '---"),
        ("env.limits.speed=9**9", r"speed is a float \(0\.5\), not '9\*\*9'"),
        ("env.limits.ranges=(0,'a')", r"ranges is a float \(0\.0\), not 'a'"),
        ("env.limits.ranges=(0,1e999)", r"ranges must be a finite number"),
        ("env.limits.speed=None", r"speed is a float \(0\.5\), not None"),
        ("env.limits.ranges=(0,None)", r"ranges is a float \(0\.0\), not None"),
        ("env.limits.gains={'hip':None}", r"gains\.'hip' is a float \(1\.0\), not None"),
        ("env.limits.gains.hip=null", r"gains\.hip is a float \(1\.0\), not None"),
        ("env.limits.gains={'hip':'x'}", r"gains\.'hip' is a float \(1\.0\), not 'x'"),
        ("env.name=" + 5000 * "x", r"'x+\.\.\.x+' has 5,000 characters: at most 4,096 are read"),
        (300_000 * "x", r"'x+\.\.\.x+' is not of the form"),
        (300_000 * "x" + "=1", r"RobotCfg has no field 'x+\.\.\.x+'; there are "),
        (100_000 * "x." + "=1", r"RobotCfg has no field 'x'"),
    ],
)
def test_a_wrong_override_is_refused_and_changes_nothing(override: str, message: str) -> None:
    cfg = RobotCfg()
    before = class_to_dict(cfg)
    with pytest.raises(ConfigError, match=message) as caught:
        apply_overrides(cfg, ["seed=5", override])
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)
    assert class_to_dict(cfg) == before


def test_dictionaries_survive_json() -> None:
    cfg = FastCfg()
    cfg.env.limits.gains["knee"] = 4.5
    restored = RobotCfg()
    update_from_dict(restored, json.loads(json.dumps(class_to_dict(cfg))))
    assert class_to_dict(restored) == class_to_dict(cfg)


def test_a_whole_dictionary_is_replaced() -> None:
    cfg = RobotCfg()
    apply_overrides(cfg, ["env.limits.gains={'ankle': 3.0}"])
    assert cfg.env.limits.gains == {"ankle": 3.0}
    update_from_dict(cfg, {"env": {"limits": {"gains": {}}}})
    apply_overrides(cfg, ["env.limits.gains.wrist=2"])
    assert cfg.env.limits.gains == {"wrist": 2}


def test_a_misspelt_field_of_a_derived_configuration_is_found() -> None:
    class Misspelt(RobotCfg):
        class env(RobotCfg.env):
            num_env = 64

    class Extended(RobotCfg):
        class env(RobotCfg.env):
            class limits(RobotCfg.env.limits):
                height = 1.0

    with pytest.raises(ConfigError, match=r"Misspelt\.env has no field 'num_env'; did you mean 'num_envs'"):
        check_fields(Misspelt(), RobotCfg())
    check_fields(FastCfg(), RobotCfg())
    check_fields(Extended(), RobotCfg(), free=("env.limits",))
    with pytest.raises(ConfigError, match=r"limits has no field 'height'"):
        check_fields(Extended(), RobotCfg())


def test_a_field_of_an_earlier_release_is_passed_over_in_files_and_refused_elsewhere() -> None:
    class Cfg(BaseConfig):
        class runner:
            _dropped = ("resume",)

            max_iterations = 5

    cfg = Cfg()
    update_from_dict(cfg, {"runner": {"resume": True, "max_iterations": 7}})
    assert cfg.runner.max_iterations == 7 and "resume" not in class_to_dict(cfg)["runner"]
    with pytest.raises(ConfigError, match="no field 'resume'"):
        apply_overrides(cfg, ["runner.resume=True"])
    with pytest.raises(ConfigError, match="no field 'max_iteration'; did you mean"):
        update_from_dict(cfg, {"runner": {"max_iteration": 7}})
