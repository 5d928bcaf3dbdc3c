"""How does a person read where an item's answer comes from? Lines of text, of the same record that `--json` prints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_TEXT = 200  # characters of an answer that are shown
_INDENT = "  {:<10} {}"


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """What is known of the item, from its object to what learned of it."""
    item = record["item"]
    yield f"{item['key']}: {record['job']}, item {item['item_id']}"
    yield _line("object", f"{item['uri']}, {_STATES[item['state']].format(**item)}")
    yield from _read(record["row"])
    for run in record["runs"]:
        if not run["committed"] and not run["damaged"]:
            yield _line("planned", f"in shard {run['shard']} of run {run['run_id']}, not committed: winnow run SPEC")
    for task in record["tasks"]:
        yield from _task(task)
    yield from _earlier(record)


_STATES = {
    "current": "version {version} as run {listed_by} listed it, {listed_bytes} bytes",
    "pending": "version {listed_version} as run {listed_by} listed it; no run has a row of it yet",
    "changed": "version {listed_version} as run {listed_by} listed it; what follows is of version {version}, the last "
    "that was predicted",
    "damaged": "version {listed_version} as run {listed_by} listed it; its row cannot be read",
    "gone": "not in the corpus any more as run {listed_by} listed it; what follows is of version {version}",
}


def _read(row: Mapping[str, Any] | None) -> Iterator[str]:
    if row is None:
        return
    size = "" if row["width"] is None else f", {row['format']}, {row['width']} x {row['height']} px upright"
    why = f" ({row['reason']})" if row["reason"] else ""
    digest = f", sha256 {row['content_sha256']}" if row["content_sha256"] else ""
    yield _line("read", f"{row['outcome']}{why}, {row['bytes']} bytes{digest}{size}")
    yield _line("row", f"{row['object']}, written by winnow {row['code_version']}, attempt {row['attempt']}")
    if row["copied_from"]:
        yield _line("copied", f"from the row of item {row['copied_from']}, whose bytes are the same")


def _task(task: Mapping[str, Any]) -> Iterator[str]:
    kind = f" ({task['operator']}, run {task['run_id']})" if task["operator"] else ""
    yield f"{task['task']}{kind}"
    if task["model"] is not None:
        yield _line("model", _model(task["model"]))
    if task["vector"] is not None:
        yield _line("vector", "of {task}, in the row of run {run_id}".format(**task["vector"]))
    if task["prediction"] is not None:
        yield _line("predicted", _prediction(task["prediction"]))
    if task["error"]:
        yield _line("failed", task["error"])
    yield from _routed(task)
    for one in task["asked"]:
        yield _line("asked", _asked(one))
    for one in task["labels"]:
        yield _line("answer", _label(one))
    if task["consensus"] is not None:
        yield _line("consensus", _consensus(task["consensus"]))
    decision = task["decision"]
    answer = "" if decision["answer"] is None else f": {answer_text(decision['answer'])}"
    yield _line("now", f"{decision['word']}{answer}; {decision['why']}")
    for one in task["learnt_by"]:
        what = one["text"] if one["kind"] == "promise" else f"{one['calibrator']}, learned {one['at']}"
        yield _line("taught", f"{one['kind']} {what}")


def _routed(task: Mapping[str, Any]) -> Iterator[str]:
    route = task["route"]
    if route is None:
        return
    p_ok = "none" if route["p_ok"] is None else f"{route['p_ok']:.4f} by {route['calibrator']}"
    chance = "" if route["inclusion"] is None else f"; drawn with probability {route['inclusion']:.4g}"
    chosen = "" if route["chosen"] is None else f"; chosen by {route['chosen']}"
    again = "" if route["run_id"] == task["run_id"] else f"; held before, it competed again in run {route['run_id']}"
    yield _line("route", f"{route['route']} ({route['reason']}), p_ok {p_ok}{chance}{chosen}{again}")
    if task["calibrator"] is not None:
        fitted = task["calibrator"]["fitted_on"]
        where = f"{fitted['labels']:,} labels ({fitted['source']}: {', '.join(fitted['purposes']) or 'given'})"
        yield _line("calibrated", f"{task['calibrator']['calibrator']} fitted on {where}, runs {_some(fitted['runs'])}")
    if task["promise"] is not None:
        yield _line("promise", task["promise"]["text"])


def _model(model: Mapping[str, Any]) -> str:
    text = f"{model['reference']}, digest {model['digest']}"
    if "version" in model:
        stages = f", now {', '.join(model['stages'])}" if model["stages"] else ""
        text += f" = {model['name']}@{model['version']}{stages}"
    card = model.get("card", {})
    return text + "".join(
        f"; {name.replace('_', ' ')} {card[name]}" for name in ("parent", "trained_on") if name in card
    )


def _prediction(struct: Mapping[str, Any]) -> str:
    score = "no score" if struct.get("score") is None else f"score {struct['score']:.4f} ({struct['score_kind']})"
    return f"{answer_text(struct)}, {score}, preprocessing {struct.get('preproc')}"


def answer_text(value: Mapping[str, Any]) -> str:
    """An answer in a few words: a label, labels, a verdict, a text, or what was found how often."""
    if value.get("labels") is not None:
        return ", ".join(value["labels"]) or "none of the labels"
    if "label" in value:
        return str(value["label"])
    if value.get("full_text") is not None:
        text = " / ".join(value["full_text"].splitlines())
        return repr(text if len(text) <= _TEXT else text[: _TEXT - 3] + "...")
    if value.get("is_anomalous") is not None:
        return "anomalous" if value["is_anomalous"] else "normal"
    for name in ("boxes", "masks"):
        if value.get(name) is not None:
            return _found(value[name], name)
    return _neighbours(value["neighbours"]) if "neighbours" in value else "a vector" if "model" in value else "nothing"


def _neighbours(neighbours: Sequence[Mapping[str, Any]]) -> str:
    judged = [one["same"] for one in neighbours if one["same"] is not None]
    return f"{sum(judged)} of {len(judged)} neighbours the same"


def _found(parts: Sequence[Mapping[str, Any]], name: str) -> str:
    counts: dict[str, int] = {}
    for part in parts:
        if part.get("is_output") is not False:
            counts[str(part["label"])] = counts.get(str(part["label"]), 0) + 1
    return ", ".join(f"{count} {label}" for label, count in sorted(counts.items())) or f"no {name}"


def _asked(one: Mapping[str, Any]) -> str:
    state = one["state"] or "not in this ledger"
    place = f": {one['link']}" if one["link"] else ""
    return f"{one['purpose']} ({one['reason']}), run {one['run_id']}, task {one['dedupe_key']}, {state}{place}"


def _label(one: Mapping[str, Any]) -> str:
    said = "skipped" if one["was_cancelled"] else "deleted" if one["event"] == "deleted" else None
    said = said or ("an answer of another interface" if one["value"] is None else answer_text(one["value"]))
    shown = "blind" if one["shown"] is None else f"shown {_seen(one['shown'])}"
    after = "" if one["stands"] else ", superseded" if one["superseded_by"] else ", does not count"
    return (
        f"{one['annotator'] or 'unknown'} at {one['updated_at'] or one['created_at']}: {said} "
        f"({one['event']}, {one['purpose']}, {shown}, interface {(one['config_hash'] or 'unknown')[:12]}){after}"
    )


def _seen(shown: Mapping[str, Any]) -> str:
    value = shown.get("value")
    return f"{answer_text(value) if value else 'nothing'} by {shown.get('model_version')}"


def _consensus(one: Mapping[str, Any]) -> str:
    stale = "" if one["formed_of_present"] else "; formed of other answers than those that stand: winnow consensus SPEC"
    return (
        f"{answer_text(one['answer'])}, {one['state']}, posterior {one['posterior']:.3f} of {one['votes']} answers "
        f"({one['method']}, {one['formed_at']}){stale}"
    )


def _earlier(record: Mapping[str, Any]) -> Iterator[str]:
    committed = [run for run in record["runs"] if run["committed"]]
    if len(committed) < 2:
        return
    yield "runs"
    for run in committed:
        routes = ", ".join(f"{task} {route}" for task, route in run["routes"].items()) or "not routed"
        yield _line(run["run_id"], f"{run['created_at'][:19]}, version {run['version']}, {run['outcome']}: {routes}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} to {names[-1]}"


def _line(name: str, text: str) -> str:
    return _INDENT.format(name, text)
