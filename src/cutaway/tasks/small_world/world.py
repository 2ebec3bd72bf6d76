"""The small world: its people, places and facts, as plain data.

Everything here is either a real fact (a city and its state, a state and its capital, what a person is known for) or a
bare word list.  Sentences are made elsewhere, from templates.  Every entry is one word, so that every entry is one
token.
"""

from __future__ import annotations


def word_list(text: str) -> tuple[str, ...]:
    """The words of a text, in order."""
    return tuple(text.split())


MALE_NAMES = word_list(
    "John Tom Paul Mark Peter David Robert Henry Jack Daniel Simon Adam Kevin Brian Frank George Luke Oscar "
    "Victor Martin  Eric Steven Philip Edward Arthur Ryan Jason Patrick Roger Bruno"
)
FEMALE_NAMES = word_list(
    "Mary Anna Alice Sarah Emma Laura Julia Susan Karen Lucy Jane Helen Nancy Linda Carol Diana Amy Kate Rachel Clara "
    "Sophie Emily Maria Olivia Megan Nora Ruth Betty Grace Irene"
)
FIRST_NAMES = MALE_NAMES + FEMALE_NAMES

PLACES = word_list(
    "shop store park school beach market farm garden station library museum bank harbor cafe bakery hotel church zoo "
    "castle theater hospital"
)
OBJECTS = word_list(
    "book drink ball ring letter flower hat clock map bag cup lamp picture cake drum kite shell coat key basket ticket"
)
COLOURS = word_list("red blue green yellow black white brown pink purple gray")

# States whose name and capital are one word each (32 of the 50), with five cities that are not the capital.  A city
# name that is common in several states is either left out or appears once, in a state that does have it.
GEOGRAPHY = {
    "Alabama": ("Montgomery", "Birmingham Mobile Huntsville Tuscaloosa Auburn"),
    "Alaska": ("Juneau", "Anchorage Fairbanks Sitka Kodiak Nome"),
    "Arizona": ("Phoenix", "Tucson Mesa Tempe Yuma Flagstaff"),
    "California": ("Sacramento", "Oakland Fresno Bakersfield Anaheim Stockton"),
    "Colorado": ("Denver", "Boulder Pueblo Aurora Durango Loveland"),
    "Connecticut": ("Hartford", "Stamford Bridgeport Norwalk Danbury Waterbury"),
    "Delaware": ("Dover", "Newark Wilmington Smyrna Milford Seaford"),
    "Florida": ("Tallahassee", "Miami Orlando Tampa Jacksonville Pensacola"),
    "Georgia": ("Atlanta", "Savannah Macon Athens Valdosta Marietta"),
    "Hawaii": ("Honolulu", "Hilo Kailua Kapolei Waipahu Kahului"),
    "Idaho": ("Boise", "Nampa Pocatello Meridian Caldwell Moscow"),
    "Illinois": ("Springfield", "Chicago Peoria Rockford Naperville Joliet"),
    "Indiana": ("Indianapolis", "Evansville Gary Muncie Bloomington Kokomo"),
    "Kansas": ("Topeka", "Wichita Salina Olathe Lawrence Hutchinson"),
    "Kentucky": ("Frankfort", "Louisville Lexington Paducah Owensboro Covington"),
    "Maine": ("Augusta", "Bangor Lewiston Biddeford Saco Brunswick"),
    "Maryland": ("Annapolis", "Baltimore Rockville Frederick Gaithersburg Bethesda"),
    "Massachusetts": ("Boston", "Cambridge Worcester Lowell Quincy Brockton"),
    "Michigan": ("Lansing", "Detroit Flint Kalamazoo Saginaw Dearborn"),
    "Mississippi": ("Jackson", "Biloxi Tupelo Gulfport Natchez Vicksburg"),
    "Montana": ("Helena", "Billings Bozeman Missoula Butte Kalispell"),
    "Nebraska": ("Lincoln", "Omaha Kearney Hastings Scottsbluff Ogallala"),
    "Ohio": ("Columbus", "Cleveland Cincinnati Toledo Akron Dayton"),
    "Oregon": ("Salem", "Portland Eugene Medford Corvallis Bend"),
    "Pennsylvania": ("Harrisburg", "Philadelphia Pittsburgh Scranton Allentown Erie"),
    "Tennessee": ("Nashville", "Memphis Knoxville Chattanooga Clarksville Murfreesboro"),
    "Texas": ("Austin", "Dallas Houston Waco Lubbock Amarillo"),
    "Vermont": ("Montpelier", "Burlington Rutland Brattleboro Bennington Stowe"),
    "Virginia": ("Richmond", "Norfolk Roanoke Alexandria Chesapeake Lynchburg"),
    "Washington": ("Olympia", "Seattle Spokane Tacoma Everett Yakima"),
    "Wisconsin": ("Madison", "Milwaukee Kenosha Racine Oshkosh Waukesha"),
    "Wyoming": ("Cheyenne", "Casper Laramie Gillette Cody Sheridan"),
}
STATES = tuple(GEOGRAPHY)
CAPITALS = tuple(capital for capital, _ in GEOGRAPHY.values())
CITIES = tuple(city for _, cities in GEOGRAPHY.values() for city in cities.split())
STATE_OF_CITY = tuple(i for i, (_, cities) in enumerate(GEOGRAPHY.values()) for _ in cities.split())

# What each person is known for.  Surnames that are also common words, cities or first names are left out.
KNOWN_FOR = {
    "tennis": "Federer Nadal Djokovic Agassi Sampras Navratilova Graf Borg",
    "golf": "Nicklaus Palmer Mickelson McIlroy",
    "soccer": "Messi Ronaldo Pele Maradona Beckham Zidane Neymar Cruyff",
    "basketball": "Jordan Bryant Curry Pippen Ewing Barkley",
    "baseball": "Gehrig Mantle Mays DiMaggio Jeter",
    "boxing": "Ali Tyson Frazier Foreman Holyfield",
    "chess": "Kasparov Karpov Carlsen Fischer Anand Botvinnik",
    "swimming": "Phelps Ledecky Spitz Thorpe",
    "piano": "Chopin Liszt Rachmaninoff Horowitz Gould Rubinstein",
    "guitar": "Hendrix Clapton Segovia Santana",
    "violin": "Paganini Heifetz Menuhin Perlman",
    "trumpet": "Armstrong Gillespie Marsalis",
    "physics": "Einstein Newton Bohr Feynman Maxwell Fermi Dirac Planck",
    "chemistry": "Lavoisier Mendeleev Pauling Dalton",
    "mathematics": "Euler Gauss Euclid Hilbert Riemann Noether",
    "biology": "Darwin Mendel Linnaeus Watson",
    "astronomy": "Kepler Hubble Copernicus Halley",
    "painting": "Picasso Monet Rembrandt Vermeer Matisse Cezanne",
}
FIELDS = tuple(KNOWN_FOR)
KNOWN_PEOPLE = tuple(person for people in KNOWN_FOR.values() for person in people.split())
FIELD_OF_PERSON = tuple(i for i, people in enumerate(KNOWN_FOR.values()) for _ in people.split())

# People of the stories, of whom nothing is ever stated.
UNDESCRIBED_PEOPLE = word_list(
    "Smith Jones Williams Taylor Davies Evans Roberts Walker Wright Robinson Thompson Hughes Edwards Hall Clarke "
    "Harris  Cooper Ward Turner Morris Moore Parker Bailey Bennett Morgan Ellis Harvey Mason Shaw Holmes Barnes "
    "Knight Rogers  Stevens Chapman Webb Simpson Ford Lloyd Rees Fletcher Burton Hart Spencer Payne Pearson "
    "Gibson Watts Grant Porter  Boyd Walsh Murphy Kelly Doyle Quinn Nolan Dunn Baxter Osborne Gilbert Norris "
    "Pratt Sutton Vance Yates Becker Keller  Weber Meyer Novak Olsen Hansen Rossi Conti Silva Costa Tanaka Suzuki "
    "Haddad"
)
