from cmmixer_hf.files import read_csv
from cmmixer_hf.search.index import Match
from cmmixer_hf.search.playlists import write_m3u, write_matches_csv

ITEMS = [
    {"title": "Ode\n#EXTM3U", "artist": "Ludwig", "path": "/music/ode.ogg", "start": 30.0, "end": 60.5}
    | {"duration": 200.4, "tags": ["a", "b"]},
    {"path": "sub/=cmd.ogg"},
]
FOUND = [("clip.mp4", [Match(item, 0.5, ()) for item in ITEMS])]


def test_a_table_holds_all_that_is_known(tmp_path):
    write_matches_csv(tmp_path / "found.csv", FOUND)
    head, first, second = read_csv(tmp_path / "found.csv")
    row = dict(zip(head, first, strict=True))
    assert row["rank"] == "1"
    assert (row["path"], row["start"], row["tags"]) == ("/music/ode.ogg", "30.0", "a; b")
    assert dict(zip(head, second, strict=True))["duration"] == ""


def test_columns_of_a_library_do_not_pass_for_ours(tmp_path):
    item = {"path": "/a.ogg", "score": "99", "rank": "7", "query": "x", "duration": "3:20"}
    found = [("clip.mp4", [Match(item, 0.5, ()), Match(item | {"duration": "180"}, 0.4, ())])]
    write_matches_csv(tmp_path / "found.csv", found)
    head, first, _ = read_csv(tmp_path / "found.csv")
    row = dict(zip(head, first, strict=True))
    assert (row["query"], row["rank"], row["score"], row["duration"]) == ("clip.mp4", "1", "0.5", "3:20")
    write_m3u(tmp_path / "found.m3u", found)
    lengths = [line for line in (tmp_path / "found.m3u").read_text().splitlines() if line.startswith("#EXTINF")]
    assert lengths == ["#EXTINF:-1,/a.ogg", "#EXTINF:180,/a.ogg"]


def test_a_playlist_starts_each_match_where_it_was_found(tmp_path):
    write_m3u(tmp_path / "found.m3u", FOUND, folder="/index")
    lines = (tmp_path / "found.m3u").read_text().splitlines()
    assert lines[:5] == [
        "#EXTM3U",
        "#EXTINF:200,Ludwig - Ode #EXTM3U",
        "#EXTVLCOPT:start-time=30",
        "#EXTVLCOPT:stop-time=60.5",
        "/music/ode.ogg",
    ]
    assert lines[-1] == "/index/sub/=cmd.ogg"
