"""Azure's multimodal trace, on a small file of the same form."""

from __future__ import annotations

import gzip

import pytest
from helpers_workload import TRACES, freeze, from_file

from ray_jobs.workload.left_out import left_out_line

LMM = """TIMESTAMP,NumImages,ContextTokens,GeneratedTokens
2024-10-15T12:00:00.250Z,0,77,49
2024-10-15T12:00:05.750Z,1,950,12
2024-10-15T12:00:06.250Z,16,2564,7
2024-10-15T12:00:07.250Z,0,64,0
"""


@pytest.mark.parametrize("packed", [False, True])
def test_images_count_as_the_tokens_they_are_and_make_a_class(tmp_path, packed: bool) -> None:
    path = tmp_path / ("AzureLMMInferenceTrace_multimodal.csv" + ".gz" * packed)
    path.write_bytes(gzip.compress(LMM.encode()) if packed else LMM.encode())
    trace = freeze(from_file("azure_lmm", path))
    assert [(r.kind, len(r.prompt_token_ids), r.output_tokens) for r in trace.requests] == [
        ("text", 77, 49), ("image", 950, 12), ("image", 2564, 7),
    ]  # fmt: skip
    assert [r.arrival_s for r in trace.requests] == pytest.approx([0.0, 5.5, 6.0])
    assert "3 of 4 rows are requests" in left_out_line(trace) and "1 without an output" in left_out_line(
        trace
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n",
            "columns TIMESTAMP, NumImages, ContextTokens, Generated",
        ),
        (LMM.replace(",16,", ",many,"), "record 3: NumImages='many' is no number"),
        (LMM.replace(",950,", ",some,"), "record 2: ContextTokens='some' is no number of tokens"),
    ],
)
def test_bad_files_are_named(tmp_path, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        freeze(from_file("azure_lmm", tmp_path / "bad.csv"))
    assert "workload.source.path" in str(caught.value) and "\n" not in str(caught.value)


def test_the_real_trace() -> None:
    path = TRACES / "AzureLMMInferenceTrace_multimodal.csv.gz"
    if not path.exists():
        pytest.skip(f"needs the public trace {path}")
    trace = freeze(from_file("azure_lmm", path, num_requests=2000, pick="head", fit="truncate"))
    assert trace.meta["file_rows"] == 1_000_000 and {r.kind for r in trace.requests} == {"image", "text"}
