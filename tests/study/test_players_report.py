"""The report on players: planted profiles agree or do not, directions and rings are told apart."""

import numpy as np
import pytest
import torch

import iaside as ia
from iaside.estimate.estimate import Estimate
from iaside.game.players import Cells, player_energy
from iaside.study.pages import players as page
from iaside.tables import Worths

N = 20
RNG = np.random.default_rng(0)


def profile(*means):
    return np.array(means, float)[:, None] + RNG.normal(scale=0.05, size=(len(means), N))


LOW, HIGH, TIED = profile(5, 4, 3, 2, 1), profile(1, 2, 3, 4, 5), profile(1, 1, 1, 1, 1)


def test_profiles_that_rank_alike_agree_and_others_do_not():
    assert page.agreement(LOW, 2 * LOW).value == 1 and page.agreement(LOW, 2 * LOW).low == 1
    assert page.agreement(LOW, HIGH).value == -1
    unsure = page.agreement(LOW, TIED)
    assert unsure.low < 0 < unsure.high and -1 <= unsure.low and unsure.high <= 1


def test_too_few_photographs_give_a_number_without_limits():
    few = page.agreement(LOW[:, :3], HIGH[:, :3])
    assert few.value == -1 and np.isnan(few.low)


def test_limits_of_an_agreement_are_coefficients():
    """Two players nearly tied: some resamples swap them, and of few photographs limits pass 1."""
    few = 10
    near = 0.012 + 0.05 * np.tile([1, -1], few // 2)
    second = np.stack([np.full(few, 2.0), 1 + near, np.ones(few)])
    found = page.agreement(LOW[:3, :few], second)
    assert found.value == found.high == 1 and found.low < 1


def test_shares_are_signed_parts_of_the_whole_worth():
    exact = np.array([2.0, -1.0, 1.0])[:, None] * np.ones(N)
    bars = page.share_bars({"levels": {"net": exact}}, ["levels"])
    assert bars["share"].tolist() == pytest.approx([1, -0.5, 0.5])
    assert list(bars["band"]) == [0, 1, 2]


def test_the_table_sets_wavelets_beside_their_own_bands():
    mine = {"levels": HIGH, "octaves": LOW, "packets": LOW[:4], "bands": LOW[:4]}
    text = page.agreements({g: {"net": v} for g, v in mine.items()})
    levels, packets = text.loc["net", "levels and octaves"], text.loc["net", "packets and bands"]
    assert levels["rank agreement of the profiles"].startswith("-1.00")
    assert (levels["largest share: wavelets"], levels["bands"]) == ("4", "0")
    assert levels["L1 distance of the shares"].startswith("0.8")  # 12/15 of the worth
    assert (packets["largest share: wavelets"], packets["bands"]) == ("0", "0")
    assert packets["rank agreement of the profiles"].startswith("1.00")


def test_scores_and_their_gaps_are_of_the_right_players():
    mine = {"levels": LOW, "octaves": HIGH, "packets": HIGH[:4], "bands": HIGH[:4]}
    values = {g: {"net": v} for g, v in mine.items()}
    found, gaps = page.scores(values, 0.75), page.score_gaps(values, 0.75)
    low, high = found["levels"]["net"].value, found["octaves"]["net"].value
    assert high < 0 < low
    assert gaps["levels"]["net"].value == pytest.approx(low - high)
    assert gaps["packets"]["net"].value == 0


def test_rings_are_compared_with_the_two_bands():
    cells = np.array([1.0, 2, 1, 3, 3])[:, None] * np.ones(N)  # the mean, two low, two high
    two = np.array([3.0, 1])[:, None] * np.ones(N)
    row = page.ring_gaps({"sectors x rings": {"net": cells}, "two bands": {"net": two}}).loc["net"]
    assert [row[name][:5] for name in ("sectors x rings", "two bands")] == ["0.40 ", "0.75 "]
    assert row["gap"].startswith("-0.35")


def games(n_networks=6):
    """Networks from low to high frequencies, the same by octaves and levels, not by packets."""
    lean = np.linspace(-1, 1, n_networks)
    made = [profile(*(3 + x * np.linspace(1, -1, 5))) for x in lean]
    four = [v[:4] for v in made]
    mixed = [four[i] for i in np.random.default_rng(1).permutation(n_networks)]
    named = {
        "octaves": made, "levels": made, "bands": four, "packets": mixed, "sectors": made,
        "directions": four, "two bands": [v[:2] for v in made], "sectors x rings": made,
    }  # fmt: skip
    assert set(named) == set(page.GAMES)
    return {g: {f"net{i}": v for i, v in enumerate(of)} for g, of in named.items()}


def test_scores_of_the_same_profiles_correlate_over_networks():
    found = page.over_networks(games(8), 0.75)
    assert found["levels"].value == 1 and found["levels"].low > 0.5
    assert abs(found["packets"].value) < 0.9
    gaps = page.score_gaps(games(5), 0.75)
    assert all(e.value == 0 for e in gaps["levels"].values())
    text = page.agreements(games(2))
    assert text.loc[("net0", "levels and octaves"), "rank agreement of the profiles"][:4] == "1.00"


def test_stripes_are_horizontal_waves_by_sectors_and_by_wavelets():
    """One thing by two names: sectors give the direction of the wave, wavelets that of the edge."""
    fine = torch.cos(2.6 * torch.arange(64.0)).expand(1, 1, 64, 64)  # of the finest level
    for picture, where in ((fine, 0), (fine.mT, 1)):
        values = {
            "sectors": {"net": player_energy(picture, ia.orientation_bands(4)).numpy()},
            "directions": {
                "net": player_energy(picture, ia.wavelet_bands("db4", 1, "orientation")).numpy()
            },
        }
        values = {g: {m: np.repeat(v, N, 1) for m, v in of.items()} for g, of in values.items()}
        bars = page.direction_bars(values)
        for g in values:
            psi = bars[bars["players"] == g]["psi"].to_numpy()
            assert psi.argmax() == where and psi[where] > 0.8 * psi.sum()
        told = page.contrasts(values).iloc[0]
        for name in ("horizontal - vertical, sectors", "horizontal - vertical, wavelets"):
            assert told[name].startswith("-" if where else "+")


def test_both_diagonals_are_one_direction_and_grids_of_other_angles_are_left_out():
    values = {
        "sectors": {"net": np.array([9.0, 1, 2, 3, 4])[:, None] * np.ones(N)},
        "directions": {"net": np.array([9.0, 1, 2, 5])[:, None] * np.ones(N)},
    }
    bars = page.direction_bars(values).groupby("players")["psi"].apply(list)
    assert bars["sectors"] == [1, 3, 6] and bars["directions"] == [2, 1, 5]
    told = page.contrasts(values).loc["net"]
    assert told["both - diagonal, sectors"].startswith("-2.00")
    assert told["both - diagonal, wavelets"].startswith("-2.00")
    two = values | {"sectors": {"net": np.ones((3, N))}}
    assert set(page.direction_bars(two)["players"]) == {"directions"}
    assert [name for name in page.contrasts(two) if "sectors" in name] == []


def test_games_of_other_photographs_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(game, images):
        look = np.random.default_rng(images).bytes(16 * 5).hex()
        about = {"images": str(images), "look": look, "n_bands": 2}
        about["values"] = ["log_likelihood"]
        folder = tmp_path / "results/player_worths/tables/net"
        Worths({"log_likelihood": np.zeros((4, 5))}, about).save(folder / f"{game}.npz")

    for game in page.GAMES:
        write(game, 1)
    assert list(page.load_games(["net"])) == list(page.GAMES)
    write("sectors", 2)
    with pytest.raises(ValueError, match="photographs"):
        page.load_games(["net"])


def test_a_range_goes_from_the_smallest_to_the_largest():
    ends = [Estimate(x, 0.1, x - 0.2, x + 0.2, N, "photographs") for x in (0.5, -0.5, 0.0)]
    assert page.range_words(ends) == "-0.50 [-0.70, -0.30] to 0.50 [0.30, 0.70]"


def test_rings_of_sectors_are_the_two_bands():
    x = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    mine = player_energy(x, ia.orientation_bands(3, rings=2)).numpy()
    assert np.allclose(page.rings_of(mine, 3), player_energy(x, ia.band_masks(2, (32, 32))))


@pytest.mark.filterwarnings("ignore:the first answers lie", "ignore:one image alone")
def test_the_map_of_cells_shows_the_place_that_is_looked_at():
    def model(x):
        seen = x[:, :, 16:, :16].mean((1, 2, 3)) * 9  # below on the left
        return torch.stack([seen, 0 * seen], 1)

    x = torch.full((1, 3, 32, 32), 0.5)
    cells = Cells(ia.wavelet_bands("haar", 2), grid=2)
    how = dict(value="margin", batch_size=64, progress=False)
    found = ia.sampled_worths(model, x, torch.zeros(1).long(), cells, budget=200, **how)
    found.provenance |= {"grid": 2}
    maps = page.cell_maps(found)
    assert maps.shape == (3, 2, 2) and maps[0, 1, 0] == pytest.approx(4.5, abs=0.1)
    assert np.abs(np.delete(maps.ravel(), 2)).max() < 0.1
    assert page.strongest_cells(found, 1).startswith("approximation at 1, 0 +4.5")
