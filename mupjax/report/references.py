"""Papers, as captions cite them in HTML."""

CHEN = "Chen et al. 2025, arXiv:2503.09565, Sec. 5"
HAJJAR = "Hajjar, Chizat &amp; Giraud 2021, arXiv:2110.15596"
TERJEK = "Terjek 2025, arXiv:2502.13110"
TRANSFER = "Yang et al. 2022, arXiv:2203.03466"
YANG = "Yang &amp; Hu 2021, arXiv:2011.14522"
