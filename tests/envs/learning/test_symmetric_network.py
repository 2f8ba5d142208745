"""Networks whose output a mirror changes as it changes their input."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("rsl_rl")

from tensordict import TensorDict

from envs.learning.symmetric_network import Mirror, MirroredOutput, SymmetricMLPModel, dense_state, load_dense_state

SIZE, ACTIONS = 7, 3
INDEX, SIGN = torch.tensor([1, 0, 2, 3, 5, 4, 6]), torch.tensor([-1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0])
ACTION_INDEX, ACTION_SIGN = torch.tensor([1, 0, 2]), torch.tensor([1.0, 1.0, -1.0])


def mirror(values: torch.Tensor, group: str = "policy") -> torch.Tensor:
    assert group == "policy"
    return values[:, INDEX] * SIGN


def mirror_actions(actions: torch.Tensor) -> torch.Tensor:
    return actions[:, ACTION_INDEX] * ACTION_SIGN


def groups(values: torch.Tensor) -> TensorDict:
    return TensorDict({"policy": values}, batch_size=[len(values)])


def make_model(**options: Any) -> SymmetricMLPModel:
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "output_mirror": mirror_actions,
        "hidden_dims": (12, 8, 4),
        "obs_normalization": True,
        "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 0.4, "std_type": "log"},
        **options,
    }
    sets = {"actor": ["policy"]}
    return SymmetricMLPModel(groups(torch.zeros(2, SIZE)), sets, "actor", ACTIONS, mirror, **settings)


@pytest.fixture()
def values() -> torch.Tensor:
    return torch.randn(50, SIZE, generator=torch.Generator().manual_seed(2)) * 2.0 + 1.0


def test_mirrored_observations_give_mirrored_actions_also_after_learning(values: torch.Tensor) -> None:
    model = make_model()
    model.update_normalization(groups(values))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    target = torch.randn(50, ACTIONS, generator=torch.Generator().manual_seed(3))
    first = None
    for _ in range(40):
        loss = (model(groups(values)) - target).square().mean()
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first  # type: ignore[operator]
    with torch.no_grad():
        actions, mirrored = model(groups(values)), model(groups(mirror(values)))
    torch.testing.assert_close(mirrored, mirror_actions(actions), rtol=0.0, atol=1e-5)
    assert float((mirrored - actions).abs().mean()) > 0.1


def test_a_value_is_the_same_in_a_mirror(values: torch.Tensor) -> None:
    model = make_model(output_mirror=None, distribution_cfg=None)
    with torch.no_grad():
        torch.testing.assert_close(model(groups(values)), model(groups(mirror(values))), rtol=0.0, atol=1e-6)


def test_statistics_are_those_of_both_sides(values: torch.Tensor) -> None:
    model = make_model()
    model.update_normalization(groups(values))
    both = torch.cat((values, mirror(values)))
    torch.testing.assert_close(model.obs_normalizer.mean, both.mean(dim=0))
    torch.testing.assert_close(model.obs_normalizer.mean, mirror(model.obs_normalizer.mean.unsqueeze(0))[0])
    torch.testing.assert_close(model.obs_normalizer.std, both.std(dim=0, unbiased=False))


def test_both_sides_scatter_alike() -> None:
    model = make_model()
    assert model.distribution is not None
    with torch.no_grad():
        model.distribution.log_std_param.copy_(torch.tensor([0.0, 1.0, 2.0]))
    model.symmetrise_scatter()
    assert model.distribution.log_std_param.tolist() == [0.5, 0.5, 2.0]


def test_it_is_an_ordinary_network_multiplied_out(values: torch.Tensor) -> None:
    model = make_model()
    state = dense_state(model)
    ordinary = torch.nn.Sequential(
        *(torch.nn.Linear(SIZE, 12), torch.nn.ELU(), torch.nn.Linear(12, 8), torch.nn.ELU()),
        *(torch.nn.Linear(8, 4), torch.nn.ELU(), torch.nn.Linear(4, ACTIONS)),
    )
    ordinary.load_state_dict({name[4:]: value for name, value in state.items() if name.startswith("mlp.")})
    with torch.no_grad():
        torch.testing.assert_close(ordinary(model.obs_normalizer(values)), model(groups(values)))


def test_what_is_no_mirror_is_refused() -> None:
    with pytest.raises(ValueError, match="undo itself"):
        Mirror(torch.tensor([1, 2, 0]), torch.ones(3))
    with pytest.raises(ValueError, match="even number"):
        make_model(hidden_dims=(12, 7))


def test_a_network_takes_the_weights_of_ordinary_layers(values: torch.Tensor) -> None:
    model, other = make_model(), make_model()
    for parameter in other.mlp.parameters():
        torch.nn.init.uniform_(parameter, -0.5, 0.5)
    ordinary = {name[4:]: value for name, value in dense_state(other).items() if name.startswith("mlp.")}
    load_dense_state(model, ordinary)
    torch.testing.assert_close(model(groups(values)), other(groups(values)))
    lopsided = {name: value.clone() for name, value in ordinary.items()}
    lopsided["0.weight"][0] += 0.1
    with pytest.raises(ValueError, match="layer 0 is not symmetric"):
        load_dense_state(model, lopsided)
    with pytest.raises(ValueError, match=r"layer 0 is \(12, 6\)"):
        load_dense_state(model, {**ordinary, "0.weight": ordinary["0.weight"][:, :6]})


def test_a_wider_network_does_what_the_narrower_did_and_learns_more(values: torch.Tensor) -> None:
    narrow, wide = make_model(), make_model(hidden_dims=(20, 12, 10))
    load_dense_state(wide, {name[4:]: value for name, value in dense_state(narrow).items() if name.startswith("mlp.")})
    torch.testing.assert_close(wide(groups(values)), narrow(groups(values)))
    wide(groups(values)).square().sum().backward()
    output = wide.mlp[6]
    assert isinstance(output, MirroredOutput) and output.weight.grad is not None
    heard = output.weight.grad.ne(0.0)
    assert heard.tolist() == [[True] * 10] * ACTIONS, "units that nothing listens to yet would never be heard"
    with pytest.raises(ValueError, match=r"layer 0 is \(20, 7\), which does not fit \(12, 7\)"):
        load_dense_state(
            narrow, {name[4:]: value for name, value in dense_state(wide).items() if name.startswith("mlp.")}
        )
