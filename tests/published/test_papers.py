"""The tables of both papers and of the README: as printed, and in the relations that the papers' text states."""

import pytest

from gluon_aff.published import paper_tables

TABLES = paper_tables()

# Attentional Feature Fusion, Table 3: InceptionNet, ResNet (CIFAR-100), ResNet + FPN (StopSign), each for b = 1 to 4,
# and ResNet on ImageNet
TABLE_3 = """
Global + Global | 0.735 0.766 0.775 0.789 | 0.754 0.796 0.811 0.821 | 0.911 0.923 0.936 0.939 | 0.777
Local + Local   | 0.746 0.771 0.785 0.787 | 0.754 0.794 0.808 0.814 | 0.895 0.919 0.921 0.924 | 0.780
Global + Local  | 0.756 0.784 0.794 0.801 | 0.763 0.804 0.816 0.826 | 0.924 0.935 0.939 0.944 | 0.784
"""
# Table 4: the same networks, without ImageNet
TABLE_4 = """
Add           | 0.720 0.753 0.771 0.782 | 0.740 0.786 0.797 0.808 | 0.895 0.920 0.925 0.928
Concatenation | 0.725 0.749 0.772 0.779 | 0.742 0.782 0.793 0.798 | 0.897 0.909 0.925 0.939
MS-GAU        | 0.751 0.774 0.788 0.795 | 0.766 0.803 0.815 0.819 | 0.917 0.926 0.937 0.941
MS-SENet      | 0.752 0.780 0.790 0.798 | 0.765 0.799 0.814 0.820 | 0.915 0.929 0.940 0.940
MS-SA         | 0.756 0.779 0.790 0.798 | 0.761 0.801 0.814 0.822 | 0.920 0.932 0.938 0.941
AFF           | 0.756 0.784 0.794 0.801 | 0.763 0.804 0.816 0.826 | 0.924 0.935 0.939 0.944
iAFF          | 0.774 0.801 0.808 0.814 | 0.772 0.807 0.822 /     | 0.927 0.938 0.945 0.953
"""
# Table 5: top-1 error in percent, parameters in millions
TABLE_5 = """
ResNet-101                          | 23.2 42.5
Efficient-Channel-Attention-Net-101 | 21.4 42.5
Attention-Augmented-ResNet-101      | 21.3 45.4
SENet-101                           | 20.9 49.4
Gather-Excite-theta+-ResNet-101     | 20.7 58.4
Local-Importance-Pooling-ResNet-101 | 20.7 42.9
AFF-ResNet-50                       | 20.9 30.3
AFF-ResNeXt-50-32x4d                | 20.8 29.9
iAFF-ResNet-50                      | 20.4 35.1
iAFF-ResNeXt-50-32x4d               | 20.2 34.7
"""
# The original's README at its last commit, ImageNet and (withdrawn) CIFAR-100
README_IMAGENET = """
ResNet-101                          | 23.2 42.5
Efficient-Channel-Attention-Net-101 | 21.4 42.5
Attention-Augmented-ResNet-101      | 21.3 45.4
SENet-101                           | 20.9 49.4
Gather-Excite-theta+-ResNet-101     | 20.7 58.4
Local-Importance-Pooling-ResNet-101 | 20.7 42.9
AFF-ResNet-50                       | 20.3 30.3
iAFF-ResNet-50                      | 20.2 35.1
iAFF-ResNeXt-50-32x4d               | 19.78 34.7
"""
README_CIFAR100 = """
Attention-Augmented-Wide-ResNet-28-10 | 81.6 36.2
SENet-29                              | 82.2 35.0
SKNet-29                              | 82.7 27.7
PyramidNet-272-alpha-200              | 83.6 26.0
NAT-M4                                | 88.3 9.0
AutoAugment+PyramidNet+ShakeDrop      | 89.3 26.0
AFF-ResNet-32                         | 90.8 7.9
AFF-ResNeXt-38-32x4d                  | 91.2 7.8
AFF-ResNeXt-47-32x4d                  | 91.8 9.7
"""
# AFINets, Table 4 (CIFAR-100: accuracy in percent, parameters, FLOPs at batch size 32)
AFI_TABLE_4 = """
ResNet-32               | 71.16 472.76K 2.23G
AFI-ResNet-32           | 71.09 378.23K 1.78G
AFI-ResNet-32-B         | 72.57 668.98K 3.15G
ResNet-110              | 73.73 1.74M 8.17G
AFI-ResNet-110          | 74.03 1.35M 6.23G
AFI-ResNet-110-B        | 75.69 2.57M 12.06G
ShuffleNetV2            | 70.71 0.94M 1.32G
AFI-ShuffleNetV2        | 72.06 0.95M 1.32G
AFI-ShuffleNetV2-B      | 72.24 1.29M 1.76G
MobileNetV2             | 75.20 2.41M 3.03G
AFI-MobileNetV2         | 75.94 2.25M 2.67G
AFI-MobileNetV2-B       | 77.08 2.84M 3.16G
ResNeXt-29(32x4d)       | 78.44 4.87M 24.95G
AFI-ResNeXt-29(32x4d)   | 79.37 4.26M 21.74G
AFI-ResNeXt-29(32x4d)-B | 79.85 5.23M 25.90G
"""
# AFINets, Table 5 (ImageNet: parameters in millions, GFLOPs at batch size 32, top-1 and top-5 accuracy), Table 6 (MiB)
AFI_TABLE_5 = """
ResNet-50       | 25.56 131.57 75.3 92.2
AFI-ResNet-50   | 23.85 121.72 76.19 92.88
AFI-ResNet-50-B | 33.86 176.05 77.02 93.55
ResNet-152      | 60.19 369.88 77.0 93.3
AFI-ResNet-152  | 54.67 332.24 78.24 93.98
SE-ResNet-50    | 28.07 131.83 76.71 93.38
SE-ResNet-152   | 66.77 370.52 78.43 94.27
"""
AFI_TABLE_6 = """
ResNet-50     | 7447 3827
AFI-ResNet-50 | 7001 2671
"""
PRINTED = {
    "aff_table3_context_scale": TABLE_3,
    "aff_table4_fusion_strategy": TABLE_4,
    "aff_table5_imagenet": TABLE_5,
    "readme_imagenet": README_IMAGENET,
    "readme_cifar100_superclass_withdrawn": README_CIFAR100,
    "afi_table4_cifar100": AFI_TABLE_4,
    "afi_table5_imagenet": AFI_TABLE_5,
    "afi_table6_memory_mib_batch_64": AFI_TABLE_6,
}
HOSTS = ("inception_cifar100", "resnet_cifar100", "fpn_stopsign")


def figure(text):
    """What is printed in a cell: a number, text such as 1.74M, or nothing, for which the paper prints a slash."""
    if text == "/":
        return None
    return text if text[-1] in "KMG" else float(text)


def rows_of(printed):
    lines = (line.split("|", 1) for line in printed.strip().splitlines())
    return {name.strip(): tuple(figure(cell) for cell in cells.replace("|", " ").split()) for name, cells in lines}


@pytest.mark.parametrize("name", PRINTED)
def test_a_table_is_as_printed(name):
    assert dict(TABLES[name].rows) == rows_of(PRINTED[name])


def test_columns_of_the_papers_tables_are_in_the_printed_order():
    blocks = tuple(f"{host} b{b}" for host in HOSTS for b in (1, 2, 3, 4))
    assert TABLES["aff_table3_context_scale"].columns == (*blocks, "resnet50_imagenet top1")
    assert TABLES["aff_table4_fusion_strategy"].columns == blocks
    for name in ("aff_table5_imagenet", "readme_imagenet"):
        assert TABLES[name].columns == ("top1_error_percent", "params_millions")
    assert TABLES["readme_cifar100_superclass_withdrawn"].columns == ("accuracy_percent", "params_millions")
    assert TABLES["afi_table4_cifar100"].columns == ("accuracy_percent", "params", "flops_at_batch_32")
    assert TABLES["afi_table5_imagenet"].columns == ("params_millions", "flops_giga_at_batch_32", "top1", "top5")
    assert TABLES["afi_table6_memory_mib_batch_64"].columns == ("training", "testing")


def test_table_2_of_the_first_paper():
    columns = TABLES["aff_table2_settings"].columns
    settings = [dict(zip(columns, row)) for row in TABLES["aff_table2_settings"].rows.values()]
    kept = ("host", "scenario", "r", "epochs", "batch_size", "optimizer", "lr", "lr_mode", "init")
    assert [tuple(each[name] for name in kept) for each in settings] == [
        ("Inception-ResNet-20-b", "same layer", 4, 400, 128, "Nesterov", 0.2, "step, gamma 0.1", "Kaiming"),
        ("ResNet-20-b", "short skip", 4, 400, 128, "Nesterov", 0.2, "step, gamma 0.1", "Kaiming"),
        ("ResNeXt-38-32x4d", "short skip", 16, 400, 128, "Nesterov", 0.2, "step, gamma 0.1", "Xavier"),
        ("ResNet-50", "short skip", 16, 160, 128, "Nesterov", 0.075, "cosine", "Kaiming"),
        ("ResNet-20-b + FPN", "long skip", 4, 300, 32, "AdaGrad", 0.01, "poly", "Kaiming"),
    ]


def test_global_and_local_context_outperform_either_alone_in_all_settings():
    """Section 5.1.1."""
    rows = TABLES["aff_table3_context_scale"].rows
    for both, *alone in zip(rows["Global + Local"], rows["Global + Global"], rows["Local + Local"]):
        assert both > max(alone)


def test_attention_is_better_than_linear_fusion_and_two_levels_are_best():
    """Section 5.1.2; Table 4's AFF is Table 3's Global + Local. A network with more blocks is never worse."""
    rows = TABLES["aff_table4_fusion_strategy"].rows
    assert rows["AFF"] == TABLES["aff_table3_context_scale"].rows["Global + Local"][:12]
    for column in zip(*rows.values()):
        *linear, gau, se, sa, aff, iaff = column
        assert min(gau, se, sa, aff) > max(linear)
        assert iaff is None or iaff > max(column[:-1])
    for row in rows.values():
        for host in (row[:4], row[4:8], row[8:]):
            known = [score for score in host if score is not None]
            assert known == sorted(known)


def test_iaff_resnet_50_is_better_by_0_3_percent_with_60_percent_of_the_parameters():
    """Section 5.2, of Gather-Excite-ResNet-101."""
    rows = TABLES["aff_table5_imagenet"].rows
    (error, size), (other_error, other_size) = rows["iAFF-ResNet-50"], rows["Gather-Excite-theta+-ResNet-101"]
    assert other_error - error == pytest.approx(0.3)
    assert round(size / other_size, 2) == 0.60


@pytest.mark.parametrize(
    ("name", "baseline", "others", "printed"),
    [
        ("afi_table1_stage", ("ResNet-32", 0), [("ResNet-32", each) for each in (1, 2, 3)], (0.22, -0.53, -0.41)),
        ("afi_table1_stage", ("ResNet-110", 0), [("ResNet-110", each) for each in (1, 2, 3)], (1.30, 0.40, 0.29)),
        (
            "afi_table2_mobilenetv2",
            ("AFI", 0),
            [(f"AFI_{each}", 0) for each in ("SE", "GE", "CBAM", "ECA")],
            (0.21, 0.28, 0.57, 0.82),
        ),
        ("afi_table4_cifar100", ("ResNeXt-29(32x4d)", 0), [("AFI-ResNeXt-29(32x4d)", 0)], (0.93,)),
        *(
            ("afi_table5_imagenet", (f"ResNet-{depth}", column), [(f"AFI-ResNet-{depth}", column)], (printed,))
            for depth, differences in ((50, (-1.71, -9.85, 0.89, 0.68)), (152, (-5.52, -37.64, 1.24, 0.68)))
            for column, printed in enumerate(differences)
        ),
    ],
)
def test_differences_that_the_second_paper_prints(name, baseline, others, printed):
    """In its Tables 1, 2 and 5 in brackets, and in Section 4.1."""
    rows = TABLES[name].rows
    start = rows[baseline[0]][baseline[1]]
    assert tuple(round(rows[row][column] - start, 2) for row, column in others) == printed


def test_baselines_of_the_second_paper_are_the_same_in_its_tables():
    stages, models, networks = (
        TABLES[name].rows for name in ("afi_table1_stage", "afi_table2_mobilenetv2", "afi_table4_cifar100")
    )
    assert TABLES["afi_table1_stage"].columns == ("baseline", "stage1", "stage2", "stage3")
    for name in stages:
        assert stages[name][0] == networks[name][0]
    assert [models[row][0] for row in ("Baseline", "AFI")] == [networks[f"{afi}MobileNetV2"][0] for afi in ("", "AFI-")]


def test_afi_resnet_152_saves_9_2_percent_of_the_parameters_and_10_of_the_flops():
    """The second paper's abstract."""
    plain, integrating = (TABLES["afi_table5_imagenet"].rows[f"{name}ResNet-152"] for name in ("", "AFI-"))
    assert round(100 * (1 - integrating[0] / plain[0]), 1) == 9.2
    assert round(100 * (1 - integrating[1] / plain[1])) == 10
