"""The texts of the page in both languages."""

LANGUAGES = ("en", "zh")

NAMES = {
    "bare": ("by hand", "手写循环"),
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
        "What the engine costs, beside plain PyTorch and the engines that people would pick instead. This page is "
        "written by `make bench`; every figure is from one run of it.",
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
    "none_ahead": ("Nowhere in these measurements.", "在这些测量中没有。"),
    "goals": ("Goals", "目标"),
    "misses": ("Where the time goes in what is missed", "未达到之处时间花在哪里"),
    "no_misses": ("Nothing is missed.", "没有未达到的目标。"),
    "profile": ("footplate in `{case}` under cProfile:", "cProfile 下 `{case}` 中的 footplate："),
    "steps": ("An iteration", "每次迭代"),
    "plot": ("Time of an iteration by that of the loop by hand", "每次迭代时间与手写循环之比"),
    "steps_about": (
        "Microseconds an iteration, and below them the ratio to the loop by hand: medians over rounds, with quartiles. "
        "An iteration is the median over blocks of 50, so that a log line is always within. One thread; engines take "
        "turns, and the turns begin with another engine each round. Where a goal compares footplate with the "
        "loop by hand, these two take turns in further rounds, each case in a process to itself: a ratio of two "
        "processes has a spread of some percent.",
        "每次迭代的微秒数，其下是与手写循环之比：各轮的中位数与四分位数。一次迭代取每 50 次一块的中位数，"
        "日志行总在其内。单线程；各引擎轮流，每轮从另一个引擎开始。目标与手写循环相比时，二者再轮流若干轮，"
        "每个项目独占一个进程：两个进程之比有百分之几的离散。",
    ),
    "case": ("case", "项目"),
    "goal": ("goal", "目标"),
    "measured": ("measured", "测得"),
    "verdict": ("", ""),
    "engine": ("engine", "引擎"),
    "share": ("its share of footplate's", "与 footplate 之比"),
    "rounds": ("rounds: {count}", "轮数：{count}"),
    "beside": ("beside {engine}", "相对 {engine}"),
    "not_measured": ("not measured", "未测"),
    "rest": ("Further cases", "其他项目"),
    "what": ("What each case does", "各项目的内容"),
    "differently": ("What each engine did differently", "各引擎的不同之处"),
    "versions": ("Versions", "版本"),
    "version": ("version", "版本"),
    "again": ("To make it again", "重新生成"),
    "again_about": (
        "The environments lie in `~/.cache/footplate/bench`, one an engine, from the lists in "
        "`benchmarks/engines/lists`. A run goes on where the last one stopped, unless sources have changed.",
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
