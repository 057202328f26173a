"""The labels of the two heads, in the order of their logits."""

ATTACK = ("benign", "injection", "jailbreak")
CATEGORIES = ("hate", "harassment", "self_harm", "sexual", "violence", "illicit")
