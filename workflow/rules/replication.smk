"""The results held against the paper: claims, scorecard, report."""


rule check_claims:
    input:
        script=script("check_claims.py"),
        modules=modules("check_claims.py"),
        claims=CLAIMS,
        networks=network_tables(measured_networks()),
        slopes=target_table("growth", results("growth_slopes.csv")),
        structures=target_table("structures", figures("structures.csv")),
        convolution=target_table("convolution", figures("convolution.csv")),
        initialization=target_table("initialization", figures("initialization.csv")),
        sizes=lambda wildcards: paper_trainings("erf/{name}/seed_{seed}.csv"),
        scores=lambda wildcards: paper_trainings("trainings/{name}/seed_{seed}/test.csv"),
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
        trainings=as_json(paper_training_settings()),
        shown=as_json(networks_shown()),
        command=lambda wildcards: remade_by(),
    message:
        "Every claim held against the paper"
    shell:
        "python {input.script:q} --claims {input.claims:q} --networks {input.networks} --slopes {input.slopes} "
        "--structures {input.structures} --convolution {input.convolution} --initialization {input.initialization} "
        "--sizes {input.sizes} --scores {input.scores} --trainings {params.trainings:q} --shown {params.shown:q} "
        "--command {params.command:q} --out {output.csv} > {log} 2>&1"


rule figure_scorecard:
    input:
        script=script("figure_scorecard.py"),
        modules=modules("figure_scorecard.py"),
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
        script=script("replication_report.py"),
        modules=modules("replication_report.py"),
        template=str(REPORT / "index.html.jinja"),
        texts=report_texts(),
        claims=results("claims.json"),
        scorecard=figures("scorecard.png"),
        figures=[figures(f"{figure['name']}.png") for figure in report_figures()],
        fields=[results(f"networks/{name}.npz") for name in measured_networks()],
        sizes=every_training("erf/{name}/seed_{seed}.csv"),
        scores=every_training("trainings/{name}/seed_{seed}/test.csv"),
        speed=every_training("trainings/{name}/seed_{seed}/speed.csv"),
        records=lambda wildcards: records(),
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
        facts=lambda wildcards: as_json(report_facts()),
    message:
        "Replication report"
    shell:
        "python {input.script:q} --claims {input.claims} --scorecard {input.scorecard} --facts {params.facts:q} "
        "--pictures {input.figures} --fields {input.fields} --sizes {input.sizes} --scores {input.scores} --speed {input.speed} --template {input.template:q} "
        "--records {input.records} --out {output.out} > {log} 2>&1"
