"""Titles and captions of the figures, as HTML, by the names of their files."""

_CHEN = "Chen et al. 2025, arXiv:2503.09565, Sec. 5"
_YANG = "Yang &amp; Hu 2021, arXiv:2011.14522"
_TRANSFER = "Yang et al. 2022, arXiv:2203.03466"
_HAJJAR = "Hajjar, Chizat &amp; Giraud 2021, arXiv:2110.15596"
_LAYERS = (
    "Preactivations h above, activations x below; eigenvalues with the sampling factor divided out. Preactivations of "
    "layer 1 start linear in the inputs, and are independent only where these are."
)
FIGURES = {
    "loss.png": (
        "Losses over SGD steps",
        "Lines are means over seeds and bands reach from the smallest to the largest seed; darker lines are wider "
        "networks, and the dashed black line is infinite width. Where there is a kernel limit, wider networks should "
        f"come closer to it ({_YANG}).",
    ),
    "feature_change.png": (
        "Feature change against width",
        "Where the line stays level, features are learned at every width; where it falls, about as 1/√n, networks "
        f"approach the kernel regime, whose features do not move ({_CHEN}; {_YANG}).",
    ),
    "diversity.png": (
        "Feature diversity against width",
        "The smallest eigenvalue of the last Gram matrix: where it stays away from zero as the width grows, the "
        f"features of different inputs stay linearly independent ({_CHEN}).",
    ),
    "space_time.png": (
        "Space-time non-degeneracy against width",
        "The smallest eigenvalue of the joint Gram matrix of first and last features: zero in a kernel limit, where "
        "features do not move, and positive where they become new and remain diverse. Compare slopes with the "
        f"sampling factor divided out ({_CHEN}).",
    ),
    "width_study.png": (
        "Distance from infinite width",
        "Outputs of single networks come closer to the limit as 1/√n, their mean over initialisations as 1/n. Circles "
        "are networks with real weights, triangles the same law drawn without hidden matrices; bars are two standard "
        f"errors ({_YANG}).",
    ),
    "grams.png": (
        "Gram matrices before and after training",
        "Each row has one colour scale. In the kernel regime the last matrix looks like the first and like the "
        f"infinite one; where features are learned, it does not ({_CHEN}; {_YANG}).",
    ),
    "learning_rates.png": (
        "Training loss against the learning rate",
        "Lines are means over the seeds that did not diverge and bands reach from the smallest to the largest of them; "
        "darker lines are wider networks, and a star is a width's best rate. Crosses in the strip at the top, a row "
        "for each width, are rates at which a seed diverged. Where the stars stand above each other, the best rate "
        f"transfers from narrow to wide networks ({_TRANSFER}).",
    ),
    "learning_rates_test.png": (
        "Test loss against the learning rate",
        "As above; stars are the best rates by the test loss.",
    ),
    "transfer.png": (
        "Best learning rate against width",
        "Marks are means over seeds of the rate's logarithm, with 95 % intervals; the line has the fitted slope. Where "
        f"it is level, the best rate of a narrow network is that of a wide one ({_TRANSFER}).",
    ),
    "coord_check.png": (
        "Size of every layer's coordinates and of their changes against width",
        "Marked lines are means over seeds at the last step, bands reach from the smallest to the largest seed, and "
        "light lines are earlier steps. Level lines keep their size at any width; lines that rise blow up, and changes "
        f"that fall stop learning ({_YANG}; {_TRANSFER}, App. D.1).",
    ),
    "covariance.png": (
        "Covariances of Gaussian parts against those that theory predicts",
        "Left: every pair of (step, input) at infinite width, beside theory's diagonal. Right: how far means over runs "
        "are from it at every width, and, as dashes, how far they would be by chance (Chen et al. 2025, "
        "arXiv:2503.09565).",
    ),
    "three_lines.png": (
        "Networks, first-order models and limits",
        "Where solid and dash-dotted lines part, features moved; where dash-dotted and dashed ones do, the kernel at "
        "the start is not yet the limit's. A feature-learning limit is the network's, not its first-order model's.",
    ),
    "batch_loss.png": (
        "Loss of a step's batch before its update",
        "Lines are means over the seeds that are finite, bands reach from the smallest to the largest; the grey line "
        "is the loss of outputs that are all the same.",
    ),
    "vanishing.png": (
        "Deep networks under IP",
        "With four or five hidden layers the loss stays at that of equal outputs, the grey line, at every width "
        f"({_HAJJAR}).",
    ),
    "curves.png": (
        "IP-LLR and muP",
        f"With calibrated large rates in its first step IP trains, at a pace of the order of muP's ({_HAJJAR}).",
    ),
    "stuck.png": (
        "Biases and non-centred weights",
        f"Neither lets deep networks under IP leave the loss of equal outputs, the grey line, for long ({_HAJJAR}).",
    ),
    "ranks.png": (
        "Directions of the features after one step",
        "Numerical ranks of the preactivations over the inputs: bars reach from the smallest to the largest seed. "
        f"After IP-LLR's first step deep layers see few directions; muP keeps its initial weights' ({_HAJJAR}).",
    ),
    "contributions.png": (
        "What preactivations are made of",
        "Mean absolute contributions of the initial weights, the first update and later ones to the preactivations of "
        f"the step, over inputs and units, mean over seeds ({_HAJJAR}).",
    ),
    "functions.png": (
        "Functions of one variable",
        "Before and after training, one line a seed. Four hidden layers under IP stay where they start.",
    ),
    "catapults_constant.png": (
        "Constant rates",
        "Medians over the seeds that did not diverge; the grey line is the edge of stability. Between 2 and about 4 "
        "the loss grows, then falls, and rate times sharpness comes to rest below 2 (Lewkowycz et al. 2020, "
        "arXiv:2003.02218). Below, sharpness may rise to the edge and hover there (Cohen et al. 2021, "
        "arXiv:2103.00065).",
    ),
    "catapults_following.png": (
        "Rates that follow the sharpness",
        "The rate is c over the sharpness as it is measured: a c beyond 2 makes every step super-critical (a "
        "reconstruction of Terjek 2025, arXiv:2502.13110). Drawn is the rate of the last update times the sharpness "
        "after it.",
    ),
    "depths.png": (
        "Depth",
        "Left: how much a small first step moves the last hidden layer. Right: test error after training. Means over "
        "seeds, bars from the smallest to the largest; nup is a reconstruction (Terjek 2025, arXiv:2502.13110).",
    ),
    "evolution.png": (
        "What a step moves, layer by layer",
        "Means over seeds. Above: a small first step, at a hundredth of the rates of training, at each depth. "
        "Middle: the mean over the steps of training. Below: a small first step at each width of the first layer; "
        "lines that coincide do not depend on it. nup is a reconstruction (Terjek 2025, arXiv:2502.13110).",
    ),
    "kernels.png": (
        "How far tangent kernels move",
        "Distance from the start over the size at the start after the last step, means over seeds, bars from the "
        "smallest to the largest. Under NTP it vanishes with the width (Dyer &amp; Gur-Ari 2020, arXiv:1909.11304).",
    ),
    "feature_change_layers.png": ("Feature change, every layer", _LAYERS),
    "diversity_layers.png": ("Feature diversity, every layer", _LAYERS),
    "space_time_layers.png": ("Space-time non-degeneracy, every layer", _LAYERS),
}
