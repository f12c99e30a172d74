from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_products")]
    operations = [migrations.RunSQL("ALTER TABLE products ADD fee int")]
