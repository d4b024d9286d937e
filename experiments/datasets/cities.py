"""Cities: the name of a city -> the country it is in."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.datasets.bundled_texts import BundledTexts

COUNTRIES = {  # ISO code -> label; by number of cities in GeoNames
    "IN": "India", "US": "United States", "BR": "Brazil", "CN": "China", "JP": "Japan", "DE": "Germany",
    "RU": "Russia", "GB": "United Kingdom", "ES": "Spain", "FR": "France", "IT": "Italy", "MX": "Mexico",
    "PH": "Philippines", "CA": "Canada", "ID": "Indonesia", "TR": "Turkey", "IR": "Iran", "UA": "Ukraine",
    "PK": "Pakistan", "PL": "Poland",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cities(BundledTexts):
    """Twenty countries, of which the first ten are used unless `class_count` says otherwise; GeoNames, CC BY 4.0."""

    name: ClassVar[str] = "cities"
    all_classes: ClassVar[tuple[str, ...]] = tuple(COUNTRIES.values())

    question: str = "City: {text}\nCountry:"
