from concurrent.futures import ThreadPoolExecutor
from threading import Event

from winnow_storage.ahead import mapped_ahead


def test_mapped_ahead__answers_in_order_and_asks_a_bounded_number_ahead() -> None:
    asked: list[int] = []

    def square(number: int) -> int:
        asked.append(number)
        return number * number

    with ThreadPoolExecutor(1) as pool:
        answers = mapped_ahead(pool, square, range(10), ahead=3)
        assert next(answers) == 0
        pool.submit(int).result()  # the one thread has done all that it was given before
        assert asked == [0, 1, 2, 3]
        assert list(answers) == [number * number for number in range(1, 10)]


def test_mapped_ahead__a_reader_that_stops_cancels_what_has_not_begun() -> None:
    asked: list[int] = []
    gate = Event()

    def wait(number: int) -> int:
        asked.append(number)
        if number > 0:
            assert gate.wait(60)
        return number

    with ThreadPoolExecutor(1) as pool:
        answers = mapped_ahead(pool, wait, range(10), ahead=5)
        assert next(answers) == 0
        answers.close()
        gate.set()
    assert asked in ([0], [0, 1])
