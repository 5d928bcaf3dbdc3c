from xml.etree import ElementTree

from winnow_jobs.evaluation import charts


def test_charts__are_xml_whatever_the_labels_are_called() -> None:
    confusion = {"labels": ["<b>&", 'a "quoted" name that is long'], "counts": [[3, 1, 0], [0, 0, 2]]}
    svg = charts.confusion_chart(confusion)
    root = ElementTree.fromstring(svg)
    titles = [one.text for one in root.iter("title")]
    assert titles[:3] == [
        "<b>& said to be <b>&: 3",
        '<b>& said to be a "quoted" name that is long: 1',
        "<b>& said to be other: 0",
    ]
    assert [one.get("class") for one in root.iter("rect")] == ["hit", "miss", "miss", "miss", "hit", "miss"]


def test_charts__lines_and_bars_stand_where_they_must() -> None:
    root = ElementTree.fromstring(charts.line_chart([(0.0, 0.0), (1.0, 0.5)], x="x", y="y", y_max=0.5))
    (line,) = root.iter("polyline")
    start, end = (tuple(map(float, point.split(","))) for point in str(line.get("points")).split())
    assert end[0] - start[0] == charts.SIDE
    assert start[1] - end[1] == charts.SIDE  # the highest value is at the top
    rows = [[0.0, 0.5, 0, float("nan"), float("nan")], [0.5, 1.0, 4, 0.8, 0.75]]
    bars = list(ElementTree.fromstring(charts.reliability_chart(rows)).iter("rect"))
    assert len(bars) == 1
    assert float(str(bars[0].get("height"))) == 0.75 * charts.SIDE


def test_risk_chart__curves_the_promise_and_its_threshold() -> None:
    after, before = [(0.01, 1.0), (0.5, 0.02), (1.0, 0.08)], [(0.5, 0.1), (1.0, 0.3)]
    chosen = charts.Chosen(coverage=0.5, risk=0.02, bound=0.04)
    root = ElementTree.fromstring(charts.risk_chart([after], target=0.05, chosen=chosen))
    (line,) = root.iter("polyline")
    points = [tuple(map(float, point.split(","))) for point in str(line.get("points")).split()]
    assert points[0][1] == charts.TOP  # one error among the first few: cut off where the scale ends
    assert points[2][1] == round(charts.TOP + charts.SIDE * (1 - 0.08 / 0.1), 1)
    assert [one.text for one in root.iter("text")][-2:] == ["10 %", "coverage: share that is accepted"]
    (dot,) = root.iter("circle")
    assert (float(str(dot.get("cx"))), float(str(dot.get("cy")))) == points[1]
    assert dot[0].text == "50.0% of the draws are accepted, share of errors 2.00%, upper bound 4.00%"

    both = ElementTree.fromstring(charts.risk_chart([after, before]))
    assert [one.get("class") for one in both.iter("polyline")] == ["curve second", "curve"]  # the first one on top
    assert "40 %" in [one.text for one in both.iter("text")]
    assert list(ElementTree.fromstring(charts.risk_chart([[], []])).iter("circle")) == []
