"""The results held against the paper: claims, scorecard, report; and the article of what is kept of them."""

from importlib.util import find_spec


rule check_claims:
    input:
        **program("check_claims"),
        **run.claims_tables(),
        claims=here.claims,
    output:
        csv=report(
            results("claims.csv"),
            caption="../report/claims.rst",
            category="Verdicts",
            labels={"figure": "Table of claims"},
        ),
        json=results("claims.json"),
        provenance=record(results("claims.csv")),
    log:
        logs("check_claims.log"),
    benchmark:
        benchmarks("check_claims.tsv")
    conda:
        "../../environment.yml"
    params:
        **run.claims_options(),
    message:
        "Every claim held against the paper"
    shell:
        "python {input.script:q} --claims {input.claims:q} {params.options} --settings {params.settings_file:q} "
        "--out {output.csv} > {log} 2>&1"


rule figure_scorecard:
    input:
        **program("figure_scorecard"),
        claims=results("claims.json"),
    output:
        png=report(
            figures("scorecard.png"),
            caption="../report/scorecard.rst",
            category="Verdicts",
            labels={"figure": "Scorecard"},
        ),
        pdf=figures("scorecard.pdf"),
        csv=figures("scorecard.csv"),
        provenance=record(figures("scorecard.png")),
    log:
        logs("figure_scorecard.log"),
    benchmark:
        benchmarks("figure_scorecard.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: every claim, the paper's value and ours"
    shell:
        "python {input.script:q} --claims {input.claims} --out {output.png} > {log} 2>&1"


rule replication_report:
    input:
        **program("replication_report"),
        template=str(here.report_folder / "index.html.jinja"),
        texts=here.report_texts(),
        claims=results("claims.json"),
        figures=[figures(f"{figure['name']}.png") for figure in run.figures_shown()],
        fields=[results(f"networks/{name}.npz") for name in configuration.measured_networks()],
        sizes=run.every_training("erf/{name}/seed_{seed}.csv"),
        scores=run.every_training("trainings/{name}/seed_{seed}/test.csv"),
        speed=run.every_training("trainings/{name}/seed_{seed}/speed.csv"),
        records=lambda wildcards: run.records(),
    output:
        out=report(
            results("report/index.html"),
            caption="../report/report.rst",
            category="Verdicts",
            labels={"figure": "Replication report"},
        ),
        provenance=record(results("report/index.html")),
    log:
        logs("replication_report.log"),
    benchmark:
        benchmarks("replication_report.tsv")
    conda:
        "../../environment.yml"
    params:
        **run.given("replication_report", run.report_facts()),
    message:
        "Replication report"
    shell:
        "python {input.script:q} --claims {input.claims} --settings {params.settings_file:q} "
        "--pictures {input.figures} --fields {input.fields} --sizes {input.sizes} "
        "--scores {input.scores} --speed {input.speed} --template {input.template:q} --records {input.records} "
        "--out {output.out} > {log} 2>&1"


rule article:  # of `make article`: of the kept results of several configurations, so that none of them needs it
    input:
        **program("article"),
        template=str(here.report_folder / "article/article.typ"),
        texts=here.article_texts(),
        kept=here.kept_results(),
        trainings=str(here.project / "config/short.yaml"),
        citation=str(here.project / "CITATION.cff"),
    output:
        **({"pdf": "results/article/article.pdf"} if find_spec("typst") else {}),  # without Typst the program leaves it out
        metadata="results/article/metadata.yaml",
        bibliography="results/article/bibliography.bib",
        provenance="results/article/provenance.json",
    log:
        "logs/article.log",
    benchmark:
        "benchmarks/article.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        kept=lambda wildcards: str(here.kept),
    message:
        "Article of the replication"
    shell:
        "python {input.script:q} --kept {params.kept:q} --trainings {input.trainings:q} --citation {input.citation:q} "
        "--template {input.template:q} --out results/article/article.pdf 2>&1 | tee {log}"
