from winnow_jobs.words import counted


def test_counted__in_the_form_that_the_number_asks_for() -> None:
    assert [counted(number, "item") for number in (0, 1, 2, 2048)] == ["0 items", "1 item", "2 items", "2,048 items"]
