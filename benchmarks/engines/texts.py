"""The texts of the page in both languages."""

LANGUAGES = ("en", "zh")

NAMES = {
    "bare": ("bare loop", "裸循环"),
    "footplate": ("footplate", "footplate"),
    "ignite": ("ignite", "ignite"),
    "mmengine": ("mmengine", "mmengine"),
    "onedl": ("onedl-mmengine", "onedl-mmengine"),
    "lightning": ("Lightning", "Lightning"),
    "transformers": ("Trainer", "Trainer"),
}
STATES = {"met": ("met", "达到"), "missed": ("**missed**", "**未达到**"), "open": ("open", "待测")}
TEXTS: dict[str, tuple[str, str]] = {
    "title": ("Performance", "性能"),
    "intro": (
        "The cost of the engine, compared with plain PyTorch and with other engines. `make bench` generates "
        "this page. All figures come from one run.",
        "引擎的开销，与纯 PyTorch 以及人们会改选的其他引擎对比。本页由 `make bench` 生成，所有数字出自同一次运行。",
    ),
    "run": (
        "{when}, commit {commit}: {processor}, {cores} cores, {memory}, {system}, load {load} at the start; "
        "Python {python}, torch {torch}.",
        "{when}，提交 {commit}：{processor}，{cores} 核，{memory}，{system}，"
        "开始时负载 {load}；Python {python}，torch {torch}。",
    ),
    "nothing": ("Nothing is measured yet.", "尚未测量。"),
    "ahead": ("Where another engine is ahead", "其他引擎领先之处"),
    "none_ahead": ("In none of these measurements.", "在这些测量中没有。"),
    "goals": ("Goals", "目标"),
    "misses": ("Where the time goes in missed goals", "未达到之处时间花在哪里"),
    "no_misses": ("Nothing is missed.", "没有未达到的目标。"),
    "profile": ("footplate in `{case}` under cProfile:", "cProfile 下 `{case}` 中的 footplate："),
    "steps": ("An iteration", "每次迭代"),
    "plot": ("Iteration time relative to the bare loop", "每次迭代时间与裸循环之比"),
    "steps_about": (
        "Microseconds per iteration, and below them the ratio to the bare loop: medians over rounds, with "
        "quartiles. The time of an iteration is the median over blocks of 50 iterations, so each block "
        "contains a log line. All engines use one thread and run in turns; each round starts with a different "
        "engine. If a goal compares footplate with the bare loop, these two run in further rounds, each case "
        "in its own process. Ratios between processes vary by a few percent.",
        "每次迭代的微秒数，其下是与裸循环之比：各轮的中位数与四分位数。一次迭代取每 50 次一块的中位数，"
        "日志行总在其内。单线程；各引擎轮流，每轮从另一个引擎开始。目标与裸循环相比时，二者再轮流若干轮，"
        "每个项目独占一个进程：两个进程之比有百分之几的离散。",
    ),
    "case": ("case", "项目"),
    "goal": ("goal", "目标"),
    "measured": ("measured", "测得"),
    "goal_result": ("", ""),
    "engine": ("engine", "引擎"),
    "share": ("relative to footplate", "与 footplate 之比"),
    "rounds": ("rounds: {count}", "轮数：{count}"),
    "baseline": ("relative to {engine}", "相对 {engine}"),
    "not_measured": ("not measured", "未测"),
    "rest": ("Further cases", "其他项目"),
    "what": ("What each case does", "各项目的内容"),
    "differently": ("What each engine did differently", "各引擎的不同之处"),
    "versions": ("Versions", "版本"),
    "version": ("version", "版本"),
    "again": ("How to reproduce this page", "重新生成"),
    "again_about": (
        "Each engine has its own environment in `~/.cache/footplate/bench`, created from the lists in "
        "`benchmarks/engines/lists`. A run continues where the last one stopped, unless the sources have "
        "changed.",
        "环境位于 `~/.cache/footplate/bench`，每个引擎一个，按 `benchmarks/engines/lists` 中的清单建立。"
        "运行会从上次停下之处继续，除非源码有变。",
    ),
}


def text(key: str, language: str, **values: object) -> str:
    """Returns a text of the page in a language."""
    return TEXTS[key][LANGUAGES.index(language)].format(**values)


def pick(words: tuple[str, str], language: str) -> str:
    """Returns the text in a language."""
    return words[LANGUAGES.index(language)]
