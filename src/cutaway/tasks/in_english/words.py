"""Word lists of our own. A tokenizer keeps the words that are one token for it in mid-sentence."""

from __future__ import annotations


def listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MEN = listed(
    "John Tom Paul Mark Peter David Robert Henry Jack Daniel Simon Adam Kevin Brian Frank George Luke Oscar Victor "
    "Martin Eric Steven Philip Edward Arthur Ryan Jason Patrick Roger James Michael William Richard Thomas Charles "
    "Matthew Anthony Andrew Joshua Kenneth Ronald Jeffrey Jacob Gary Nicholas Jonathan Stephen Larry Justin Scott "
    "Benjamin Samuel Gregory Raymond Alexander Dennis Jerry Tyler Aaron Jose Nathan Sam Ben Tim Max Joe Bob Bill"
)
WOMEN = listed(
    "Mary Anna Alice Sarah Emma Laura Julia Susan Karen Lucy Jane Helen Nancy Linda Carol Diana Amy Kate Rachel Clara "
    "Sophie Emily Maria Olivia Megan Nora Ruth Betty Grace Irene Patricia Jennifer Elizabeth Barbara Jessica Lisa "
    "Sandra Ashley Kimberly Donna Michelle Amanda Melissa Deborah Stephanie Rebecca Cynthia Kathleen Angela Anne "
    "Samantha Nicole Catherine Christine Victoria Lauren Hannah Martha Judith Marie Lily Sue Mia Zoe Sally"
)
PLACES = listed("store park school garden station library market office house restaurant hospital beach farm church")
OBJECTS = listed("book drink ball ring letter flower bag cup key ticket box hat map card knife phone pen bottle")
EVENTS = listed(
    "war siege voyage trial festival project reign famine treaty plague strike journey campaign conflict study dispute "
    "contract marriage expedition rebellion alliance occupation epidemic partnership debate crisis drought exile"
)
NOUNS = listed(  # singular/plural
    "key/keys book/books box/boxes cat/cats dog/dogs bird/birds tree/trees car/cars door/doors house/houses boat/boats "
    "ship/ships table/tables chair/chairs cup/cups window/windows picture/pictures letter/letters flower/flowers "
    "horse/horses hat/hats shoe/shoes bag/bags ball/balls clock/clocks bed/beds boy/boys girl/girls teacher/teachers "
    "doctor/doctors farmer/farmers driver/drivers king/kings student/students author/authors pilot/pilots "
    "manager/managers guard/guards"
)
ARGUMENTS = listed(
    "file size name path color mode count index text width height value user label option shape date item key state "
    "line node field level event format result order message page"
)
FUNCTIONS = listed("load save open close send read write move update create find check build parse")
FILLERS = listed("sun moon bread milk stone river music paper winter summer glass silver forest coffee island money")
SHADES = listed("red blue green yellow black white brown pink purple gray gold silver")
THINGS = listed("ball cup book hat box key bag ring pen lamp card bottle clock chair coat shirt knife plate flower")
OPPOSITES = tuple(
    pair.split("/")
    for pair in listed(
        "big/small hot/cold high/low fast/slow old/young rich/poor strong/weak bright/dark "
        "good/bad happy/sad full/empty open/closed clean/dirty dry/wet near/far deep/shallow wide/narrow thick/thin "
        "loud/quiet true/false early/late first/last easy/difficult sweet/bitter safe/dangerous alive/dead "
        "beautiful/ugly inside/outside always/never day/night war/peace love/hate up/down left/right win/lose "
        "buy/sell push/pull begin/end north/south east/west summer/winter black/white positive/negative male/female"
    )
)
# country capital language
COUNTRIES = tuple(
    tuple(line.split())
    for line in """
France Paris French
Germany Berlin German
Spain Madrid Spanish
Italy Rome Italian
Portugal Lisbon Portuguese
Russia Moscow Russian
China Beijing Chinese
Japan Tokyo Japanese
Greece Athens Greek
Poland Warsaw Polish
Sweden Stockholm Swedish
Denmark Copenhagen Danish
Norway Oslo Norwegian
Finland Helsinki Finnish
Hungary Budapest Hungarian
Turkey Ankara Turkish
Thailand Bangkok Thai
Vietnam Hanoi Vietnamese
Egypt Cairo Arabic
Iraq Baghdad Arabic
Iran Tehran Persian
Ukraine Kiev Ukrainian
Romania Bucharest Romanian
England London English
Brazil Brasilia Portuguese
Chile Santiago Spanish
Peru Lima Spanish
Cuba Havana Spanish
Austria Vienna German
Korea Seoul Korean
Israel Jerusalem Hebrew
""".strip().splitlines()
)
# Requests: what does harm, what does none, and whom either is done to.
HARMFUL = listed("poison attack kill hurt shoot stab rob kidnap murder")
HARMLESS = listed("help call feed wash paint visit thank teach meet")
AIMS = listed("man woman dog horse cat guard teacher doctor farmer driver")
