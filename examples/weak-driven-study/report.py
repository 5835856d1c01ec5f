"""The study's table, its verdict and its plot, from what each arm and seed gave."""
import json
import random
import statistics

SFT_ARMS = ["sft", "sft-2x", "sft-lr", "sft-lr4"]
RESAMPLES = 2000
# Fewer say nothing of how seeds differ.
LEAST_SEEDS = 3


def paired(a, b, seed=1):
    """Mean difference of two lists of lists (seeds, items) of true and false, in points, with a 95 % bootstrap interval over seeds and
    items within them."""
    generator = random.Random(seed)
    differences = [[int(x) - int(y) for x, y in zip(one, other)] for one, other in zip(a, b)]
    mean = statistics.mean(statistics.mean(items) for items in differences)
    # The mean of n draws with replacement from items of -1, 0 and 1 is that of a multinomial: drawn by its normal limit.
    moments = [(statistics.mean(items), statistics.pvariance(items) / len(items)) for items in differences]
    means = []
    for _ in range(RESAMPLES):
        drawn = [generator.choice(moments) for _ in moments]
        means.append(statistics.mean(generator.gauss(m, v ** 0.5) for m, v in drawn))
    means.sort()
    return 100 * mean, 100 * means[int(0.025 * RESAMPLES)], 100 * means[int(0.975 * RESAMPLES) - 1]


def interval(text):
    return f"{text[0]:+.1f} ({text[1]:+.1f} to {text[2]:+.1f})"


def rank_correlation(x, y):
    """Spearman's, ties by their mean rank."""
    def ranks(values):
        order = sorted(values)
        return [order.index(value) + (order.count(value) - 1) / 2 for value in values]
    a, b = ranks(x), ranks(y)
    if len(set(a)) < 2 or len(set(b)) < 2:
        return float("nan")
    return statistics.correlation(a, b) if hasattr(statistics, "correlation") else pearson(a, b)


def pearson(a, b):
    ma, mb = statistics.mean(a), statistics.mean(b)
    top = sum((x - ma) * (y - mb) for x, y in zip(a, b))
    return top / (sum((x - ma) ** 2 for x in a) * sum((y - mb) ** 2 for y in b)) ** 0.5


def write_report(work, name, models, outcomes, ages, arms):
    by_arm = {arm: [o for o in outcomes if o["arm"] == arm] for arm in arms}
    seeds = [model["seed"] for model in models]
    rights = {arm: [o["right"] for o in rows] for arm, rows in by_arm.items()}
    before = [model["right"] for model in models]
    # Chosen on validation data.
    plain = [arm for arm in SFT_ARMS if arm in by_arm]
    best = max(plain, key=lambda arm: statistics.mean(o["validation"] for o in by_arm[arm])) if plain else None
    count = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    lines = [f"## {name}: {count}, {len(before[0])} test items each", ""]

    def mean(rows, key):
        return statistics.mean(row[key] for row in rows)

    each = ", ".join(format(100 * model["accuracy"], ".1f") for model in models)
    lines += [
        "| M1 | |", "|---|---|",
        f"| accuracy of M0 | {100 * mean(models, 'm0_accuracy'):.1f} % |",
        f"| training loss of M1 (under .01) | {mean(models, 'train_nll'):.4f} nats a token |",
        f"| mean P(y) on its training data (over .99) | {mean(models, 'train_p'):.4f} |",
        f"| test accuracy (40 to 80 %) | {100 * mean(models, 'accuracy'):.1f} % ({each}) |",
    ]
    control = paired([m["control_right"] for m in models], before)
    lines.append(f"| twice the data, over M1 (must win) | {interval(control)} points |")
    for arm in plain:
        lines.append(f"| continued: {arm}, over M1 (saturated: includes 0, under 1) | {interval(paired(rights[arm], before))} points |")
    if "mix-only" in by_arm and "sft" in by_arm:
        ratio = statistics.mean(a["gradient_norm"] / b["gradient_norm"] for a, b in zip(by_arm["mix-only"], by_arm["sft"]))
        lines.append(f"| gradient of the strong branch at step 0, mixed over SFT (at least 2) | {ratio:.1f} |")
    raw, packed = mean(models, "raw_bytes"), mean(models, "packed_bytes")
    lines.append(f"| all snapshots of a seed's store, packed over raw | {packed / raw:.3f} |")

    lines += ["", "| arm | test accuracy | over " + (best or "M1") + ", paired | pass@8 | NLL | Brier | ECE | NLL, ECE at the fitted T | entropy | tokens | GFLOP | seconds | memory, MiB |",
              "|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    base = rights[best] if best else before
    effects = {}
    for arm in arms:
        rows = by_arm[arm]
        effects[arm] = paired(rights[arm], base)
        _, low, high = paired(rights[arm], [[False] * len(items) for items in base])
        lines.append(
            f"| {arm} | {100 * mean(rows, 'accuracy'):.1f} % ({low:.1f} to {high:.1f}) | {'' if arm == best else interval(effects[arm])} | {100 * mean(rows, 'pass_at_8'):.1f} % "
            f"| {mean(rows, 'nll'):.3f} | {mean(rows, 'brier'):.3f} | {mean(rows, 'ece'):.3f} | {mean(rows, 'calibrated_nll'):.3f}, {mean(rows, 'calibrated_ece'):.3f} "
            f"| {mean(rows, 'entropy'):.3f} | {mean(rows, 'tokens_seen') / 1e3:.0f} K | {mean(rows, 'flops') / 1e9:.0f} | {mean(rows, 'seconds'):.0f} | {mean(rows, 'peak_memory') / 2**20:.0f} |")
    if best and "wmss" in effects:
        mean_effect, low, high = effects["wmss"]
        verdict = "effect" if low > 0 or high < 0 else "equivalent" if low > -2 and high < 2 else "inconclusive"
        if len(seeds) < LEAST_SEEDS:
            verdict = "no verdict on so few seeds"
        half = (high - low) / 2
        lines += ["", f"**wmss minus {best} (the best SFT arm on validation data): {interval(effects['wmss'])} points: {verdict}.** "
                      f"The smallest difference that {count} of {len(before[0])} items detect (80 % power) is about {half / 1.96 * 2.8:.1f} points."]
    if ages:
        lines += ["", "| seed | weak | gap value | guard | mean dH | accuracy gained over M1 |", "|---|---|---|---|---|---|"]
        starts = {m["seed"]: m["accuracy"] for m in models}
        correlations = []
        for seed in seeds:
            rows = [row for row in ages if row["seed"] == seed]
            for row in rows:
                lines.append(f"| {seed} | m1@{row['step']} | {row['gap_value']:.4f} | {row['guard']} | {row['mean_dh']:.4f} | {100 * (row['accuracy'] - starts[seed]):+.1f} |")
            if len(rows) > 2:
                correlations.append(rank_correlation([row["gap_value"] for row in rows], [row["accuracy"] for row in rows]))
        known = [c for c in correlations if c == c]
        if known:
            lines += ["", f"Rank correlation of gap value with accuracy gained: {statistics.mean(known):+.2f} on average ({', '.join(f'{c:+.2f}' for c in known)})."]
    text = "\n".join(lines) + "\n"
    with open(f"{work}/{name}.md", "w") as file:
        file.write(text)
    with open(f"{work}/{name}.json", "w") as file:
        json.dump({"models": models, "outcomes": outcomes, "ages": ages}, file)
    with open(f"{work}/{name}.svg", "w") as file:
        file.write(plot(name, before, by_arm, arms))
    return text


def plot(name, before, by_arm, arms):
    """Accuracy by arm: a dot for each seed, a bar for their mean; the line is M1."""
    width, row, left, right, top = 720, 30, 170, 20, 46
    values = [100 * o["accuracy"] for rows in by_arm.values() for o in rows] + [100 * statistics.mean(r) for r in before]
    low, high = 5 * int(min(values) / 5), 5 * (int(max(values) / 5) + 1)
    height = top + row * len(arms) + 40

    def x(value):
        return left + (width - left - right) * (value - low) / (high - low)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
             "<style>text{fill:#222}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
             f'<text x="{left}" y="20">{name}: test accuracy in %, by arm; the line is M1</text>']
    for tick in range(low, high + 1, 5):
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{height - 30}" stroke="#8884"/>'
                     f'<text x="{x(tick):.1f}" y="{height - 12}" text-anchor="middle">{tick}</text>')
    start = x(100 * statistics.mean(statistics.mean(r) for r in before))
    parts.append(f'<line x1="{start:.1f}" x2="{start:.1f}" y1="{top - 6}" y2="{height - 30}" stroke="#c33" stroke-width="2"/>')
    for index, arm in enumerate(arms):
        y = top + row * (index + 0.5)
        accuracies = [100 * o["accuracy"] for o in by_arm[arm]]
        middle = statistics.mean(accuracies)
        parts.append(f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{arm}</text>')
        parts.append(f'<rect x="{x(middle) - 2:.1f}" y="{y - 10:.1f}" width="4" height="20" fill="#36c"/>')
        parts += [f'<circle cx="{x(value):.1f}" cy="{y:.1f}" r="4" fill="#36c" fill-opacity=".45"/>' for value in accuracies]
    return "\n".join(parts) + "\n</svg>\n"
