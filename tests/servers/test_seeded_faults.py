"""Do seeded faults of the proxy before an S3 server follow from the seed alone, and let requests through at last?"""

from collections import Counter

from tests.servers.faulty_s3 import Kind, S3Request, seeded


def test_seeded__same_seed_same_faults_whatever_the_order() -> None:
    requests = [S3Request("GET", "b", f"{n % 40}", "", {}, b"", n // 40) for n in range(4000)]
    rates = {Kind.CUT: 0.1, Kind.LIE: 0.3}
    faults = [seeded(1, rates)(request) for request in requests]
    plan = seeded(1, rates)
    assert [plan(request) for request in reversed(requests)] == faults[::-1]
    assert [seeded(2, rates)(request) for request in requests] != faults
    count = Counter(fault.kind for fault in faults if fault is not None)
    assert 200 < count[Kind.CUT] < 400
    assert 700 < count[Kind.LIE] < 1100
    assert len({fault.place for fault in faults if fault is not None}) > 1000


def test_seeded__a_request_that_is_made_again_comes_through() -> None:
    plan = seeded(1, {Kind.RESET_BEFORE: 1.0}, in_a_row=2)
    again = [plan(S3Request("PUT", "b", "a", "", {}, b"", occurrence)) for occurrence in range(9)]
    assert [fault is None for fault in again] == [False, False, True] * 3
