-- What the library has collected.
insert into "Alt Bestand"."Zweigstelle" ("Kürzel", "Name", "Offen", "Netz", "Stunden", "Öffnet", "group") values
    ('ZB', 'Zentralbibliothek', 1, '10.1.0.0/16', '{8, 20, null}', '08:00', 'Mitte'),
    ('N', E'  Ko\u0308niz Nord\t', 0, null, '{}', null, null),
    ('MITT', 'Mitte', 1, 'fe80::1', null, '09:30:00', 'Mitte');

insert into "Alt Bestand"."Leser Konto"
    ("Zweig", "Nr.", "Vor Name", "von", "select", "E-Mail", "Stufe", "Geburt", "gültig bis", "gesperrt bis", "Guthaben", "Karte",
     "PIN", "letzte IP", "Interessen", "Werbung", "Sprache", "Zeilen", "beigetreten", "gelöscht")
select
    case n % 3 when 0 then 'N' else 'ZB' end,
    n,
    case n % 5 when 0 then null when 1 then 'Mary Ann' else 'Ann-' || n end,
    case n % 7 when 1 then 'van der' when 2 then '' end,
    'Berg ' || n,
    case when n % 4 > 0 then 'Reader.' || n || '@Library.Example' end,
    (array[1, 2, 3, 9])[1 + n % 4],
    case n % 3 when 0 then '' else to_char(date '1950-02-28' + n * 397, 'DD.MM.YYYY') end,
    case n % 4 when 0 then 'infinity'::date when 1 then '-infinity' else date '2030-01-01' + n end,
    case n % 6 when 0 then 'infinity'::timestamp when 1 then timestamp '2026-07-01 12:00:00.25' end,
    n * 1234567890123.000000000123::numeric,
    case when n % 2 = 0 then md5(n::text)::uuid end,
    case when n % 3 = 1 then decode(md5(n::text) || '00ff', 'hex') end,
    case n % 4 when 0 then '192.168.0.1'::inet when 1 then '2001:db8::/32' end,
    case n % 3 when 0 then '{}' when 1 then array['a "quoted" one', 'comma, and \ slash'] else array['Krimi', null, ''] end,
    case n % 2 when 0 then 'J' else 'N' end,
    case n % 3 when 0 then 'de' when 1 then 'it' end,
    case when n % 4 = 1 then n end,
    case when n % 5 > 0 then timestamp '2012-02-29 13:14:15' + n * interval '1 day' end,
    n % 11 = 10
from generate_series(1, 40) as n;

-- A child may stand before its parent in every order but this one.
insert into "Alt Bestand"."Sachgruppe" ("Notation", "Über", "Text", "order") values
    ('Z', null, 'Everything', null),
    ('Z.9', 'Z', 'History', 2),
    ('A', 'Z.9', 'Ancient history', 1),
    ('A 1', 'A', 'Rome', -1),
    ('ä|x', 'A', 'Ægypten', 0);

insert into "Alt Bestand"."Titel"
    ("Mandant", "Haupttitel", "ISBN", "Sachgruppe", "Erschienen", "Preis ct", "Gewicht", "Höhe", "Verlag", "Ort", "Auflage",
     "Umschlag", "Sprachen", "Zusatz", "Frist", "Zähler", "entfernt")
select
    7,
    'Title ' || n,
    case n % 3 when 0 then null when 1 then '978' || lpad(n::text, 10, '0') else lpad(n::text, 10, '0') end,
    (array['A', 'A 1', 'ä|x', null])[1 + n % 4],
    case when n % 3 > 0 then to_char(date '1900-12-31' + n * 1111, 'YYYYMMDD') end,
    case when n % 4 > 0 then n * 995 end,
    case when n % 2 = 0 then n * 100000000000000.00000000000000000001::numeric end,
    case when n % 2 = 1 then 0.1::real * n end,
    case when n % 3 > 0 then 'Reclam' end,
    case when n % 2 > 0 then 'Graz "Süd"' end,
    case when n % 5 > 0 then n end,
    case when n % 4 = 0 then '\x00ff5c27'::bytea end,
    case n % 3 when 0 then array['ger', 'ita'] when 1 then '{}' end,
    case n % 3 when 0 then '{"b": [1, 2.5, {"c": null}], "a": 12345678901234567890123}'::json when 1 then 'null' end,
    case n % 3 when 0 then interval '1 mon 3 days 04:05:06.7' when 1 then '-7 days' end,
    n,
    case when n % 9 = 8 then timestamp '2020-01-01' end
from generate_series(1, 30) as n;

insert into "Alt Bestand"."Exemplar"
    ("Titel", "Ex.", "Zweig", "x", "y", "Zustand", "Zugang", "zuletzt",
     "Anmerkung zum Zustand des Exemplares bei letzter Revision (€)", "raus")
select
    t."ID",
    e,
    case when t."ID" % 2 = 0 then 'N' else 'ZB' end,
    case when t."ID" % 3 > 0 then t."ID" * 1.125 end,
    case when t."ID" % 3 > 0 then -t."ID" end,
    (array['neu', 'gut', 'Gut', 'zerlesen']::"Alt Bestand"."Zustand"[])[1 + t."ID" % 4],
    case when t."ID" % 4 > 0 then date '1999-12-31' + t."ID"::integer end,
    case when t."ID" % 4 < 3 then 1700000000123 + t."ID" end,
    case when t."ID" % 5 = 0 then 'stained' end,
    case when t."ID" % 10 = 7 then 'J' else 'N' end
from "Alt Bestand"."Titel" t
cross join unnest(array['a', 'b2']) as e;

insert into "Alt Bestand"."Ausleihe ""neu"".2" ("Zweig", "Nr.", "Titel", "Ex.", "von", "bis", "user", "Gebühr ""€""", "zurück")
select
    case when n % 4 > 0 then case n % 3 when 0 then 'N' else 'ZB' end end,
    case when n % 4 > 0 then n end,
    n,
    'a',
    -- The hour that clocks in Vienna have twice, and the one that they skip.
    case n when 3 then timestamp '2025-10-26 02:30:00' when 4 then '2026-03-29 02:30:00' else timestamp '2026-01-02 03:04:05' + n * interval '1 day' end,
    case when n % 2 = 0 then 'infinity'::date else date '2026-05-01' + n end,
    case when n % 3 > 0 then 'clerk ' || n end,
    case when n % 3 > 0 then n * 0.35 end,
    case n % 3 when 0 then true when 1 then false end
from generate_series(1, 24) as n;
