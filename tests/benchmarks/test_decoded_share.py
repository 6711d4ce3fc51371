"""The benchmark of decoded shares: fewer patches cost less, and each share has its row."""

from decoded_share import DecodedShareSettings, run, table


def test_a_smaller_share_costs_less_and_has_its_row():
    results = run(DecodedShareSettings(shares=[1.0, 0.5], seeds=[0], clips=32, held_out=4, steps=1))
    whole, half = results
    assert half["mflop"] < whole["mflop"]
    assert [line.split(" | ")[0] for line in table(results).splitlines()[2:]] == ["| 1", "| 0.5"]
    assert f"{half['video_hidden']:.1f}" in table(results)
